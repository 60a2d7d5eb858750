//! Callers who hang up, who leave a server little time, or who send too much, over sockets.

use crate::{
    until,
    uploads::{answer, drain, learnt, opens, send, serve},
    within,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{any, post},
};
use buttress::{
    CircuitBreaker, DeadlineLayer, Error, Timeout,
    circuit_breaker::State,
    grpc::Grpc,
    http::{DeadlineHeaderLayer, Http, RespondLayer},
};
use futures::{StreamExt, stream};
use http::Request;
use std::{convert::Infallible, future::pending, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedSender, unbounded_channel},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code,
    transport::{Channel, Server},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::limit::RequestBodyLimitLayer;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const CLOSED: (State, u64) = (State::Closed, 0);

/// Tells that a handler has begun, and that it was dropped.
struct Tells(UnboundedSender<&'static str>);

impl Tells {
    fn begun(to: &UnboundedSender<&'static str>) -> Self {
        to.send("begun").unwrap();
        Self(to.clone())
    }
}

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

/// Says whether it shall hang.
fn hangs(headers: &HeaderMap) -> bool {
    headers.contains_key("x-hang")
}

async fn get(to: SocketAddr, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn five_closed_tabs_do_not_open_a_servers_breaker() {
    let breaker = CircuitBreaker::new("search");
    let (told, mut tells) = unbounded_channel();
    let handler = async move |headers: HeaderMap| {
        let _tells = Tells::begun(&told);
        if hangs(&headers) {
            pending::<()>().await;
        }
        "found"
    };
    let app = Router::new()
        .route("/", any(handler))
        .layer(RespondLayer::new(Http, breaker.layer().http()));
    let to = serve(app).await;
    for _ in 0..5 {
        let tab = get(to, "x-hang: 1\r\n").await;
        assert_eq!(within(tells.recv()).await, Some("begun"));
        drop(tab);
        assert_eq!(within(tells.recv()).await, Some("dropped"));
    }
    assert_eq!(answer(get(to, "").await).await, "HTTP/1.1 200 OK");
    assert_eq!(learnt(&breaker), CLOSED);
}

#[tokio::test]
async fn a_time_that_the_caller_gives_is_its_own_and_the_operators_most_is_the_operators() {
    let breaker = CircuitBreaker::new("orders");
    let server = |most| {
        let stack = (
            DeadlineHeaderLayer::at_most("orders", most),
            breaker.layer().http(),
        );
        let handler = async |headers: HeaderMap| {
            if hangs(&headers) {
                pending::<()>().await;
            }
        };
        let app = Router::new().route("/", any(handler));
        serve(app.layer(RespondLayer::new(Http, stack)))
    };
    let to = server(MINUTE).await;
    for header in ["x-request-timeout-ms: 40", "grpc-timeout: 40m"] {
        for _ in 0..5 {
            let short = get(to, &format!("x-hang: 1\r\n{header}\r\n")).await;
            assert_eq!(answer(short).await, "HTTP/1.1 504 Gateway Timeout");
        }
        assert_eq!(learnt(&breaker), CLOSED, "{header}");
        assert_eq!(answer(get(to, "").await).await, "HTTP/1.1 200 OK");
    }
    let to = server(200 * MS).await;
    opens(&breaker, async || {
        let hung = get(to, "x-hang: 1\r\nx-request-timeout-ms: 60000\r\n").await;
        assert_eq!(answer(hung).await, "HTTP/1.1 504 Gateway Timeout");
    })
    .await;
}

/// Hangs if it is asked to.
struct Hangs;

type Answers = stream::Empty<Result<HealthCheckResponse, tonic::Status>>;

#[tonic::async_trait]
impl Health for Hangs {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        if request.into_inner().service == "hang" {
            pending::<()>().await;
        }
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = Answers;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Answers>, tonic::Status> {
        Ok(tonic::Response::new(stream::empty()))
    }
}

/// Asks for the health of a service, with so much time.
fn asking(service: &str, time: Option<Duration>) -> tonic::Request<HealthCheckRequest> {
    let service = service.to_owned();
    let mut request = tonic::Request::new(HealthCheckRequest { service });
    if let Some(time) = time {
        request.set_timeout(time);
    }
    request
}

#[tokio::test]
async fn clients_that_send_a_short_grpc_timeout_do_not_open_a_servers_breaker() {
    let breaker = CircuitBreaker::new("health");
    let server = async |most| {
        let stack = (
            DeadlineHeaderLayer::at_most("health", most),
            breaker.layer().grpc(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let server = Server::builder()
            .layer(RespondLayer::new(Grpc, stack))
            .add_service(HealthServer::new(Hangs));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(format!("http://{to}")).unwrap();
        HealthClient::new(channel.connect_lazy())
    };
    let mut client = server(MINUTE).await;
    for _ in 0..5 {
        let short = within(client.check(asking("hang", Some(40 * MS)))).await;
        let code = short.unwrap_err().code();
        assert!(
            matches!(code, Code::DeadlineExceeded | Code::Cancelled),
            "{code:?}"
        );
    }
    within(client.check(asking("", None))).await.unwrap();
    assert_eq!(learnt(&breaker), CLOSED);
    let client = server(200 * MS).await;
    opens(&breaker, async || {
        let mut client = client.clone();
        let hung = within(client.check(asking("hang", None))).await;
        assert_eq!(hung.unwrap_err().code(), Code::DeadlineExceeded);
    })
    .await;
}

/// Requests with more than ten bytes, told before and not.
const LARGE: [&str; 2] = [
    "content-length: 12\r\n\r\ntwelve bytes",
    "transfer-encoding: chunked\r\n\r\nc\r\ntwelve bytes\r\n0\r\n\r\n",
];

#[tokio::test]
async fn bodies_over_a_limit_do_not_open_a_servers_breaker() {
    async fn whole(body: Bytes) -> Response {
        body.into_response()
    }
    let stacks: [fn(CircuitBreaker) -> Router; 3] = [
        |breaker| {
            let app = Router::new().route("/", post(whole));
            app.layer(DefaultBodyLimit::max(10))
                .layer(RespondLayer::new(Http, breaker.layer().http()))
        },
        |breaker| {
            let app = Router::new().route("/", post(whole));
            app.layer(RequestBodyLimitLayer::new(10))
                .layer(RespondLayer::new(Http, breaker.layer().http()))
        },
        // It answers all that it cannot read with 500.
        |breaker| {
            let app = Router::new().route("/", post(drain));
            app.layer(RespondLayer::new(Http, breaker.layer().http()))
                .layer(RequestBodyLimitLayer::new(10))
        },
    ];
    for (n, stack) in stacks.into_iter().enumerate() {
        let breaker = CircuitBreaker::new("uploads");
        let to = serve(stack(breaker.clone())).await;
        for _ in 0..5 {
            for large in LARGE {
                let refused = answer(send(to, large).await).await;
                let status = refused.split(' ').nth(1).map(str::to_owned);
                // Or none, if the connection was reset with some of it unread.
                let status = status.unwrap_or_default();
                assert!(["413", "500", ""].contains(&&*status), "{n}: {refused}");
            }
        }
        let small = send(to, "content-length: 4\r\n\r\nfour").await;
        assert_eq!(answer(small).await, "HTTP/1.1 200 OK");
        assert_eq!(learnt(&breaker), CLOSED, "stack {n}");
    }
}

#[tokio::test]
async fn a_probe_over_a_socket_is_decided_by_its_head_though_its_events_go_on() {
    let breaker = CircuitBreaker::builder("events").consecutive_failures(1);
    let breaker = breaker.open_for(MS).build().unwrap();
    let handler = async |headers: HeaderMap| {
        if headers.contains_key("x-fail") {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let first = stream::iter([Ok::<_, Infallible>(Event::default().data("tick"))]);
        let events = Sse::new(first.chain(stream::pending()));
        events.keep_alive(KeepAlive::default()).into_response()
    };
    let app = Router::new()
        .route("/", any(handler))
        .layer(RespondLayer::new(Http, breaker.layer().http()));
    let to = serve(app).await;
    answer(get(to, "x-fail: 1\r\n").await).await;
    until(|| breaker.state() == State::HalfOpen).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = get(to, "").await;
        let mut head = [0; 15];
        within(stream.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        assert_eq!(breaker.state(), State::Closed);
        open.push(stream);
    }
}

#[tokio::test]
async fn a_probe_that_is_half_sent_says_nothing_and_a_whole_one_closes() {
    let breaker = CircuitBreaker::builder("uploads").consecutive_failures(1);
    let breaker = breaker.open_for(MS).build().unwrap();
    // An answer with a body, whose head is there before its end.
    let failed = || (StatusCode::INTERNAL_SERVER_ERROR, "failed").into_response();
    let handler = async move |headers: HeaderMap, body: Body| {
        let read = axum::body::to_bytes(body, usize::MAX).await;
        match headers.contains_key("x-fail") || read.is_err() {
            true => failed(),
            false => "all of it".into_response(),
        }
    };
    let app = Router::new()
        .route("/", post(handler))
        .layer(RespondLayer::new(Http, breaker.layer().http()));
    let to = serve(app).await;
    answer(send(to, "x-fail: 1\r\ncontent-length: 0\r\n\r\n").await).await;
    until(|| breaker.state() == State::HalfOpen).await;
    for _ in 0..3 {
        let mut half = send(to, "content-length: 100\r\n\r\nhalf of it").await;
        half.shutdown().await.unwrap();
        answer(half).await;
        assert_eq!(learnt(&breaker), (State::HalfOpen, 1));
    }
    let whole = send(to, "content-length: 4\r\n\r\nfour").await;
    assert_eq!(answer(whole).await, "HTTP/1.1 200 OK");
    assert_eq!(learnt(&breaker), (State::Closed, 1));
}

#[tokio::test]
async fn a_client_cuts_off_a_server_that_hangs_and_its_breaker_opens() {
    let breaker = CircuitBreaker::new("upstream");
    let to = serve(Router::new().route("/", any(pending::<Response>))).await;
    let client = ServiceBuilder::new()
        .layer(DeadlineLayer::within("client", 100 * MS).http())
        .layer(breaker.layer().http())
        .map_err(Error::<reqwest::Error>::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service(reqwest::Client::new());
    opens(&breaker, async || {
        let request = reqwest::Client::new().get(format!("http://{to}/"));
        let call = client.clone().oneshot(request.build().unwrap());
        assert!(within(call).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_slower_than_a_proxys_timeout_does_not_open_its_breaker() {
    // The body is read in the task of the connection to the service, not in that of the call.
    let upstream = serve(Router::new().route("/", post(drain))).await;
    let breaker = CircuitBreaker::new("upstream");
    let service = ServiceBuilder::new()
        .layer(Timeout::new("upstream", 200 * MS).layer())
        .layer(breaker.layer().http())
        .map_err(Error::<reqwest::Error>::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service(reqwest::Client::new());
    let forward = async move |request: Request<Body>| {
        let body = reqwest::Body::wrap_stream(request.into_body().into_data_stream());
        let request = reqwest::Client::new().post(format!("http://{upstream}/"));
        match service.oneshot(request.body(body).build().unwrap()).await {
            Ok(answer) => answer.map(Body::new).into_response(),
            Err(Error::Rejected(rejected)) => rejected.into_response(),
            Err(Error::Service(_)) => StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    let edge = RespondLayer::new(Http, tower::layer::util::Identity::new());
    let to = serve(Router::new().route("/", post(forward)).layer(edge)).await;
    for _ in 0..6 {
        let slow = send(to, "content-length: 100\r\n\r\nsome").await;
        assert_eq!(answer(slow).await, "HTTP/1.1 504 Gateway Timeout");
    }
    assert_eq!(learnt(&breaker), CLOSED);
}
