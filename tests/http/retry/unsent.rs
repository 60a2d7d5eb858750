//! Requests that were never sent, over real ports: they are sent again whatever their method.

use super::support::*;
use crate::{
    grpc::health::{asking, channel},
    tally::Tally,
};
use axum::Router;
use buttress::{
    Error, GuardLayer, grpc,
    http::{ReplayBody, SourceChain, is_unsent},
    retry::{Backoff, Retry},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy, rt::TokioExecutor};
use std::{
    error, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

/// More than is kept of a body.
const LARGE: usize = 192 * 1024;

/// A port that refuses connections until something listens to it.
struct Refusing(TcpSocket);

impl Refusing {
    fn bind() -> (Self, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (Self(socket), address)
    }

    /// Answers with how long the request's body was.
    fn serve(self) {
        let app = Router::new().fallback(async |body: Bytes| body.len().to_string());
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        let listener = self.0.listen(8).unwrap();
        tokio::spawn(async { axum::serve(listener, app).await });
    }
}

type Sent = Request<ReplayBody<Full<Bytes>>>;
type Client<E> = BoxCloneSyncService<Sent, Response<Bytes>, E>;

fn reqwest(client: reqwest::Client) -> Client<reqwest::Error> {
    BoxCloneSyncService::new(service_fn(move |request: Sent| {
        let client = client.clone();
        async move {
            let request = request.map(reqwest::Body::wrap).try_into()?;
            let response = Response::from(client.execute(request).await?);
            let (head, body) = response.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        }
    }))
}

fn hyper(http2: bool) -> Client<legacy::Error> {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    let client = builder.http2_only(http2).build_http();
    BoxCloneSyncService::new(service_fn(move |request: Sent| {
        let client = client.clone();
        async move {
            let (head, body) = client.request(request).await?.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes());
            Ok(Response::from_parts(head, body.unwrap_or_default()))
        }
    }))
}

/// Counts the attempts, and does this before the second.
fn counted<E: 'static>(
    client: Client<E>,
    before_second: impl FnOnce() + Send + 'static,
) -> (
    impl Service<Sent, Response = Response<Bytes>, Error = Error<E>> + Clone,
    Arc<AtomicU32>,
) {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let before_second = Arc::new(Mutex::new(Some(before_second)));
    let service = service_fn(move |request: Sent| {
        if count.fetch_add(1, SeqCst) == 1
            && let Some(f) = before_second.lock().unwrap().take()
        {
            f();
        }
        client.clone().oneshot(request)
    });
    (service.map_err(Error::Service), attempts)
}

fn post(address: SocketAddr, length: usize) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://{address}/orders"));
    request.body(Full::from(vec![7; length])).unwrap()
}

fn retry() -> Retry {
    let retry = Retry::builder("orders").backoff(Backoff::constant(MS));
    retry.build().unwrap()
}

async fn is_sent_again_whole<E: error::Error + 'static>(client: Client<E>) {
    let (refusing, address) = Refusing::bind();
    let (service, attempts) = counted(client, || refusing.serve());
    let layer = retry().layer().http().repeat_unsent(SourceChain);
    let response = layer.layer(service).oneshot(post(address, LARGE)).await;
    assert_eq!(response.unwrap().into_body(), LARGE.to_string());
    assert_eq!(attempts.load(SeqCst), 2);
}

#[tokio::test]
async fn a_post_of_any_length_that_no_connection_could_be_made_for_is_sent_again() {
    is_sent_again_whole(reqwest(reqwest::Client::new())).await;
    is_sent_again_whole(hyper(false)).await;
    is_sent_again_whole(hyper(true)).await;
}

#[tokio::test]
async fn errors_of_other_types_are_judged_by_a_closure() {
    type BoxError = Box<dyn error::Error + Send + Sync>;
    let (_refusing, address) = Refusing::bind();
    let boxed = || hyper(false).map_err(BoxError::from);
    let boxed = || BoxCloneSyncService::new(boxed());
    let (service, attempts) = counted(boxed(), || {});
    let layer = retry().layer().http();
    let layer = layer.repeat_unsent(|error: &Error<BoxError>| match error {
        Error::Service(error) => is_unsent(&**error),
        Error::Rejected(_) => false,
    });
    let answer = layer.layer(service).oneshot(post(address, 9)).await;
    assert!(answer.is_err());
    assert_eq!(attempts.load(SeqCst), 3);
}

#[tokio::test]
async fn by_default_a_post_is_sent_once_and_a_put_of_which_nothing_was_read_is_repeated() {
    let (_refusing, address) = Refusing::bind();
    for (method, expected) in [("POST", 1), ("PUT", 3)] {
        let (service, attempts) = counted(hyper(false), || {});
        let mut request = post(address, LARGE);
        *request.method_mut() = method.parse().unwrap();
        let answer = retry().layer().http().layer(service).oneshot(request).await;
        assert!(answer.is_err());
        assert_eq!(attempts.load(SeqCst), expected, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_may_have_been_sent_is_not_repeated_and_costs_nothing() {
    for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut] {
        let client = service_fn(move |_: Sent| {
            std::future::ready(Err::<Response<Bytes>, _>(io::Error::from(kind)))
        });
        let client: Client<io::Error> = BoxCloneSyncService::new(client);
        let (service, attempts) = counted(client, || {});
        let retry = retry();
        let layer = retry.layer().http().repeat_unsent(SourceChain);
        let request = post(SocketAddr::from(([127, 0, 0, 1], 1)), 9);
        assert!(layer.layer(service).oneshot(request).await.is_err());
        assert_eq!(attempts.load(SeqCst), 1, "{kind}");
        assert_eq!(retry.snapshot().budget_balance, 10.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_for_want_of_its_own_source_is_no_proof() {
    // A gateway whose request body comes from a third service, which refuses the connection.
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let body = http_body_util::StreamBody::new(futures::stream::iter([
        Ok(http_body::Frame::data(Bytes::from_static(b"half"))),
        Err(refused()),
    ]));
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let service = service_fn(move |request: Request<ReplayBody<_>>| {
        count.fetch_add(1, SeqCst);
        async move {
            let sent = request.into_body().collect().await;
            sent.map_err(|_| Error::Service(refused()))?;
            Ok::<_, Error<io::Error>>(answer(200))
        }
    });
    let layer = retry().layer().http().repeat_unsent(SourceChain);
    let request = Request::post("http://api/x").body(body).unwrap();
    assert!(layer.layer(service).oneshot(request).await.is_err());
    assert_eq!(attempts.load(SeqCst), 1);
}

/// A server of HTTP/2 that resets this many streams with this code when it has all of their
/// requests' bodies, and answers the others with 200 and nothing.
async fn resetting(streams: u32, code: u8) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(speak(connection, streams, code, Arc::clone(&seen)));
        }
    });
    (address, bodies)
}

async fn speak(
    mut connection: TcpStream,
    streams: u32,
    code: u8,
    bodies: Arc<Mutex<Vec<usize>>>,
) -> io::Result<()> {
    let mut preface = [0; 24];
    connection.read_exact(&mut preface).await?;
    connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?; // SETTINGS
    let mut length = 0;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let [_, high, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
        connection.read_exact(&mut payload).await?;
        if kind == 4 && flags & 1 == 0 {
            connection.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?; // its acknowledgement
        }
        if kind == 0 {
            length += payload.len();
        }
        if kind > 1 || flags & 1 == 0 {
            continue;
        }
        // A request has ended, with HEADERS or DATA.
        let count = {
            let mut bodies = bodies.lock().unwrap();
            bodies.push(std::mem::take(&mut length));
            bodies.len() as u32
        };
        let mut answer = match count <= streams {
            true => vec![0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, code], // RST_STREAM
            false => vec![0, 0, 1, 1, 5, 0, 0, 0, 0, 0x88],         // HEADERS, `:status: 200`
        };
        answer[5..9].copy_from_slice(&stream);
        connection.write_all(&answer).await?;
    }
}

async fn is_repeated_if_kept<E: error::Error + 'static>(client: impl Fn() -> Client<E>) {
    const REFUSED_STREAM: u8 = 7;
    const CANCEL: u8 = 8;
    for (code, cap, sent) in [
        (REFUSED_STREAM, 9, vec![9, 9]),
        (REFUSED_STREAM, 8, vec![9]),
        (CANCEL, 9, vec![9]),
    ] {
        let (address, bodies) = resetting(1, code).await;
        let (service, _) = counted(client(), || {});
        let layer = retry().layer().http().body_cap(cap);
        let layer = layer.repeat_unsent(SourceChain);
        let answer = layer.layer(service).oneshot(post(address, 9)).await;
        assert_eq!(answer.is_ok(), sent.len() == 2);
        assert_eq!(*bodies.lock().unwrap(), sent, "{code} {cap}");
    }
}

#[tokio::test]
async fn a_post_whose_stream_was_refused_is_sent_again_if_its_body_was_kept() {
    is_repeated_if_kept(|| hyper(true)).await;
    let client = reqwest::Client::builder().http2_prior_knowledge();
    let client = client.build().unwrap();
    is_repeated_if_kept(|| reqwest(client.clone())).await;
}

#[tokio::test]
async fn a_grpc_call_that_was_never_sent_is_made_again_though_it_may_not_be_repeated() {
    let (_refusing, refused) = Refusing::bind();
    let (reset, _) = resetting(u32::MAX, 7).await;
    for address in [refused, reset] {
        let (once, repeated) = (Tally::default(), Tally::default());
        let layer = || retry().layer().grpc().idempotent_only();
        let mut client = HealthClient::new(
            ServiceBuilder::new()
                .layer(layer())
                .layer(GuardLayer::new(once.clone()).grpc())
                .map_err(grpc::status)
                .service(channel(address)),
        );
        let status = client.check(asking("")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(once.admitted(), 1);
        let mut client = HealthClient::new(
            ServiceBuilder::new()
                .layer(layer().repeat_unsent(SourceChain))
                .layer(GuardLayer::new(repeated.clone()).grpc())
                .map_err(grpc::status)
                .service(channel(address)),
        );
        assert!(client.check(asking("")).await.is_err());
        assert_eq!(repeated.admitted(), 3);
    }
}
