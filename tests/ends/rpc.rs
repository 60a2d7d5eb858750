//! A gRPC service of orders that does what it is asked to, and how to ask. Its messages are plain
//! texts: so its clients can stream too, which no service does that comes with tonic.

use crate::{until, within};
use buttress::LoadShed;
use bytes::{Buf, BufMut};
use futures::{StreamExt, stream};
use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioExecutor;
use std::{
    convert::Infallible,
    error,
    future::{Future, pending},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    service::Routes,
    transport::{Channel, Endpoint, Server},
};
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};

type BoxError = Box<dyn error::Error + Send + Sync>;
type Answers = Pin<Box<dyn stream::Stream<Item = Result<String, Status>> + Send>>;

/// Texts as messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Texts;

impl Codec for Texts {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Texts {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Texts {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let text = String::from_utf8(bytes.to_vec());
        // As tonic does with what is no protobuf.
        text.map(Some)
            .map_err(|no| Status::internal(no.to_string()))
    }
}

/// Answers a number after so many milliseconds, "hang" never, and the rest with what it names.
async fn answer(asked: &str) -> Result<String, Status> {
    if let Ok(millis) = asked.parse() {
        sleep(Duration::from_millis(millis)).await;
        return Ok("seven".to_owned());
    }
    let exhausted = Status::resource_exhausted("slow down");
    Err(match asked {
        "hang" => pending().await,
        "missing" => Status::not_found("no such order"),
        "invalid" => Status::invalid_argument("no number"),
        "internal" => Status::internal("bug"),
        "exhausted" => exhausted,
        "pushback" => {
            let mut status = exhausted;
            let metadata = status.metadata_mut();
            metadata.insert("grpc-retry-pushback-ms", "30000".parse().unwrap());
            status
        }
        "retry-info" => Status::with_details(Code::ResourceExhausted, "slow down", retry_info()),
        other => panic!("nobody knows {other}"),
    })
}

/// A `google.rpc.Status` with a `RetryInfo` of 30 s.
fn retry_info() -> bytes::Bytes {
    let name = b"type.googleapis.com/google.rpc.RetryInfo";
    let delay = [0x0a, 2, 8, 30];
    let any = [&[0x0a, 40], &name[..], &[0x12, 4], &delay].concat();
    [&[8, 8, 0x1a, 48], &any[..]].concat().into()
}

/// How many uploads have begun, and how many have ended.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    begun: Arc<Semaphore>,
    ended: Arc<Semaphore>,
}

/// An upload that has begun. Dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Upload(Arc<Semaphore>);

impl Uploads {
    pub(crate) fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self {
            begun: none(),
            ended: none(),
        }
    }

    pub(crate) fn begin(&self) -> Upload {
        self.begun.add_permits(1);
        Upload(self.ended.clone())
    }

    /// Waits for the next upload that begins.
    pub(crate) async fn begun(&self) {
        within(self.begun.acquire()).await.unwrap().forget();
    }

    /// Waits for the next upload that ends, however it does.
    pub(crate) async fn ended(&self) {
        within(self.ended.acquire()).await.unwrap().forget();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Orders(pub(crate) Uploads);

impl Orders {
    async fn get(request: Request<String>) -> Result<Response<String>, Status> {
        answer(request.get_ref()).await.map(Response::new)
    }

    /// One answer at once, and then what was asked for.
    async fn watch(request: Request<String>) -> Result<Response<Answers>, Status> {
        let asked = request.into_inner();
        let first = stream::iter([Ok("first".to_owned())]);
        let rest = stream::once(async move { answer(&asked).await });
        Ok(Response::new(first.chain(rest).boxed()))
    }

    /// Reads all of an upload, and fails as its stream does.
    async fn put(self, request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
        let _upload = self.0.begin();
        // Waits for something else first, as methods do that ask who is calling.
        tokio::task::yield_now().await;
        let (mut parts, mut length) = (request.into_inner(), 0);
        while let Some(part) = parts.message().await? {
            length += part.len();
        }
        Ok(Response::new(length.to_string()))
    }
}

impl NamedService for Orders {
    const NAME: &'static str = "shop.Orders";
}

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let orders = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Texts);
            Ok(match request.uri().path() {
                GET => grpc.unary(service_fn(Self::get), request).await,
                WATCH => {
                    grpc.server_streaming(service_fn(Self::watch), request)
                        .await
                }
                PUT => {
                    let put = service_fn(move |request| orders.clone().put(request));
                    grpc.client_streaming(put, request).await
                }
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

const GET: &str = "/shop.Orders/Get";
const WATCH: &str = "/shop.Orders/Watch";
pub(crate) const PUT: &str = "/shop.Orders/Put";

/// Serves this behind a layer, on a port of its own.
pub(crate) async fn serve<L, S, B>(layer: L, service: S) -> SocketAddr
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send,
    <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError> + Send,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder().layer(layer);
    let server = server.add_service(service);
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    address
}

pub(crate) fn channel(to: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{to}"));
    endpoint.unwrap().connect_lazy()
}

/// A client that leaves it to the server to keep to `grpc-timeout`.
pub(crate) fn patient(to: SocketAddr) -> Client {
    let mut http = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    let http = http.http2_only(true).build_http();
    let service = tower::ServiceBuilder::new()
        .map_request(move |mut request: http::Request<Body>| {
            let to = format!("http://{to}{}", request.uri().path());
            *request.uri_mut() = to.parse().unwrap();
            request
        })
        .service(http);
    client(service)
}

/// Waits until nothing is in flight.
pub(crate) async fn drained(requests: &LoadShed) {
    until(|| requests.snapshot().in_flight == 0).await;
}

/// A client of orders behind any layers.
pub(crate) type Client = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, BoxError>;

/// Boxes a client.
pub(crate) fn client<S, B>(service: S) -> Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = tower::ServiceBuilder::new()
        .map_response(|response: http::Response<B>| response.map(Body::new))
        .map_err(Into::into)
        .service(service);
    BoxCloneSyncService::new(service)
}

async fn ready(client: &Client) -> Result<tonic::client::Grpc<Client>, Status> {
    let origin = Uri::from_static("http://orders");
    let mut grpc = tonic::client::Grpc::with_origin(client.clone(), origin);
    grpc.ready().await.map_err(Status::from_error)?;
    Ok(grpc)
}

/// Asks for one answer.
pub(crate) async fn get(client: &Client, asked: &str) -> Result<String, Status> {
    get_within(client, asked, None).await
}

/// Asks for one answer, with `grpc-timeout`.
pub(crate) async fn get_within(
    client: &Client,
    asked: &str,
    timeout: Option<Duration>,
) -> Result<String, Status> {
    let mut request = Request::new(asked.to_owned());
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let (mut grpc, path) = (ready(client).await?, PathAndQuery::from_static(GET));
    let answer = within(grpc.unary(request, path, Texts)).await;
    answer.map(Response::into_inner)
}

/// Asks for a stream of answers.
pub(crate) async fn watch(client: &Client, asked: &str) -> Result<Streaming<String>, Status> {
    let request = Request::new(asked.to_owned());
    let (mut grpc, path) = (ready(client).await?, PathAndQuery::from_static(WATCH));
    let answer = within(grpc.server_streaming(request, path, Texts)).await;
    answer.map(Response::into_inner)
}

/// Sends these parts.
pub(crate) async fn put<P>(client: &Client, parts: P) -> Result<String, Status>
where
    P: stream::Stream<Item = String> + Send + 'static,
{
    let (mut grpc, path) = (ready(client).await?, PathAndQuery::from_static(PUT));
    let answer = grpc.client_streaming(Request::new(parts), path, Texts);
    within(answer).await.map(Response::into_inner)
}

/// Returns the code of a refusal, and what kind of refusal its metadata say it is.
pub(crate) fn refusal(status: &Status) -> (Code, &str) {
    let kind = status.metadata().get("buttress-rejected");
    let kind = kind.map_or("none", |kind| kind.to_str().unwrap());
    (status.code(), kind)
}
