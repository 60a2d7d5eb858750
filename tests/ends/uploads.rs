//! Requests that break off, or that are sent slowly, are not the service's failure.

use crate::within;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use buttress::{
    CircuitBreaker, Error, GuardLayer, Now, Timeout, circuit_breaker,
    guard::{Admission, End, Guard, GuardBase, Never, WaitProgress},
    http::{Http, RespondLayer},
};
use http::Request;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Context,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{ServiceBuilder, ServiceExt};

/// A guard that admits all calls, and notes how they end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<Mutex<Vec<End>>>);

impl Ends {
    /// Returns how the calls have ended since this was last asked.
    pub(crate) fn take(&self) -> Vec<End> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl GuardBase for Ends {
    type Permit = ();
    type Wait = Never;

    fn settle(&self, (): (), end: End, _: &Now) {
        self.0.lock().unwrap().push(end);
    }

    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
}

impl<Req> Guard<Req> for Ends {
    fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
        Admission::Admitted(())
    }

    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut Context<'_>,
        _: &Now,
    ) -> WaitProgress<()> {
        match *wait {}
    }
}

pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// What a client sends that breaks off.
const BROKEN: [&str; 3] = [
    "content-length: 100\r\n\r\nhalf of it",
    "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\nzz\r\nmalformed",
    "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
];

/// Sends this after the head of a `POST`.
pub(crate) async fn send(address: SocketAddr, rest: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(rest.as_bytes()).await.unwrap();
    stream
}

/// Returns the first line of the answer, or nothing if none came.
pub(crate) async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    // Or as much as came before it was reset.
    let _ = within(stream.read_to_string(&mut answer)).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Sends requests that break off, waits for what becomes of them, and sends one that does not.
pub(crate) async fn send_broken_and_a_whole_one(address: SocketAddr) {
    for _ in 0..5 {
        for rest in BROKEN {
            let mut stream = send(address, rest).await;
            stream.shutdown().await.unwrap();
            answer(stream).await;
        }
    }
    let whole = send(address, "content-length: 4\r\n\r\nfour").await;
    assert_eq!(answer(whole).await, "HTTP/1.1 200 OK");
}

/// Returns what a breaker has learnt.
pub(crate) fn learnt(breaker: &CircuitBreaker) -> (circuit_breaker::State, u64) {
    let seen = breaker.snapshot();
    (seen.state, seen.failures_total)
}

/// Makes calls that are cut off, until that has opened a breaker, which takes five.
///
/// On a machine that is busy it may take more: a call of whose time the service had less than half
/// is no failure.
pub(crate) async fn opens(breaker: &CircuitBreaker, cut_off: impl AsyncFn()) {
    for calls in 0..50 {
        let (state, failures) = learnt(breaker);
        if state == circuit_breaker::State::Open {
            assert!(calls >= 5, "{calls}");
            assert!(calls > 5 || failures == 5, "{failures}");
            return;
        }
        cut_off().await;
    }
    panic!("fifty calls have not opened it: {breaker:?}");
}

pub(crate) async fn drain(body: Body) -> Response {
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(_) => "all of it".into_response(),
        // As many do.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[tokio::test]
async fn half_sent_and_malformed_requests_do_not_open_a_servers_breaker() {
    let breaker = CircuitBreaker::new("orders");
    let app = Router::new()
        .route("/", post(drain))
        .layer(RespondLayer::new(Http, breaker.layer().http()));
    let address = serve(app).await;
    send_broken_and_a_whole_one(address).await;
    assert_eq!(learnt(&breaker), (circuit_breaker::State::Closed, 0));
}

/// Sends what it gets on to a service, through a breaker.
async fn forward(
    State((breaker, to)): State<(CircuitBreaker, SocketAddr)>,
    request: Request<Body>,
) -> Response {
    let service = ServiceBuilder::new()
        .layer(breaker.layer().http())
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service(reqwest::Client::new());
    let body = reqwest::Body::wrap_stream(request.into_body().into_data_stream());
    let request = reqwest::Client::new()
        .post(format!("http://{to}/"))
        .body(body);
    match service.oneshot(request.build().unwrap()).await {
        Ok(answer) => answer.map(Body::new).into_response(),
        Err(Error::Rejected(rejected)) => rejected.into_response(),
        Err(Error::Service(_)) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[tokio::test]
async fn half_sent_and_malformed_requests_do_not_open_a_proxys_breaker() {
    let upstream = serve(Router::new().route("/", post(drain))).await;
    let breaker = CircuitBreaker::new("upstream");
    let app = Router::new()
        .route("/", post(forward))
        .with_state((breaker.clone(), upstream))
        .layer(RespondLayer::new(Http, tower::layer::util::Identity::new()));
    let address = serve(app).await;
    send_broken_and_a_whole_one(address).await;
    assert_eq!(learnt(&breaker), (circuit_breaker::State::Closed, 0));
}

#[tokio::test]
async fn an_upload_slower_than_the_operators_timeout_is_no_failure_and_a_hanging_handler_is() {
    let (breaker, outside, inside) = (
        CircuitBreaker::new("orders"),
        Ends::default(),
        Ends::default(),
    );
    let stack = (
        GuardLayer::new(outside.clone()).http(),
        breaker.layer().http(),
        Timeout::new("orders", Duration::from_millis(50)).layer(),
        GuardLayer::new(inside.clone()).http(),
    );
    let handler = async |headers: HeaderMap, body: Body| {
        // Waits for something else first, as handlers do that ask who is calling.
        tokio::task::yield_now().await;
        let answer = drain(body).await;
        if headers.contains_key("x-hang") {
            std::future::pending::<()>().await;
        }
        answer
    };
    let app = Router::new()
        .route("/", post(handler))
        .layer(RespondLayer::new(Http, stack));
    let address = serve(app).await;
    for _ in 0..6 {
        let slow = send(address, "content-length: 100\r\n\r\nsome").await;
        assert_eq!(answer(slow).await, "HTTP/1.1 504 Gateway Timeout");
    }
    assert_eq!(learnt(&breaker), (circuit_breaker::State::Closed, 0));
    for ends in [&outside, &inside] {
        assert_eq!(ends.take(), [End::RequestFailed; 6]);
    }
    opens(&breaker, async || {
        let whole = send(address, "x-hang: 1\r\ncontent-length: 4\r\n\r\nsome").await;
        assert_eq!(answer(whole).await, "HTTP/1.1 504 Gateway Timeout");
    })
    .await;
    for ends in [outside, inside] {
        let ends = ends.take();
        assert!(ends.len() >= 5, "{ends:?}");
        assert!(ends.iter().all(|end| *end == End::TimedOut), "{ends:?}");
    }
}
