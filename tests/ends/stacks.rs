//! The client's and the server's stack of the README, as they stand there, and what callers do to
//! them that is not the service's failure.

use crate::{
    uploads::{answer, send, send_broken_and_a_whole_one, serve},
    within,
};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use buttress::http::{ClientAddr, DeadlineHeaderLayer, Http, RespondLayer};
use buttress::{
    CircuitBreaker, DeadlineLayer, Error, LoadShed, RateLimiter, Retry, Timeout, timeout::Deadline,
};
use std::{
    error,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, time::sleep};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);

type BoxError = Box<dyn error::Error + Send + Sync>;
type Orders = BoxCloneSyncService<http::Request<reqwest::Body>, Response, BoxError>;

/// The client's.
fn orders() -> Orders {
    let client = reqwest::Client::new();
    // As in the README:
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::within("orders", Duration::from_secs(3)).http())
        .layer(CircuitBreaker::new("orders").layer().http())
        .layer(
            Retry::new("orders")
                .layer()
                .http()
                .map_body(reqwest::Body::wrap),
        )
        .layer(Timeout::new("orders", Duration::from_secs(1)).layer())
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service_fn(move |request: http::Request<reqwest::Body>| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await }
        });
    // So far.
    BoxCloneSyncService::new(
        stack
            .map_response(|response| response.map(Body::new))
            .map_err(|error: Error<reqwest::Error>| error.into()),
    )
}

/// The server's, around this router.
pub(crate) fn server(app: Router) -> Result<Router, Box<dyn error::Error>> {
    // As in the README:
    let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>();
    let per_client = RateLimiter::builder("per client", 100, Duration::from_secs(60))
        .keyed(client) // behind a proxy of yours: client.behind(TrustedProxies::parse("10.0.0.0/8")?)
        .build()?;
    let requests = LoadShed::new("requests"); // finds out how much can be done at once

    let stack = (
        DeadlineHeaderLayer::at_most("api", Duration::from_secs(5)),
        per_client.layer(),
        requests.queued().layer().http(),
    );
    // So far.
    Ok(app.layer(RespondLayer::new(Http, stack)))
}

#[test]
fn the_stacks_are_those_of_the_readme() {
    // Which calls the client's by what it is a client of.
    let source = include_str!("stacks.rs").replace("let stack = S", "let mut orders = S");
    crate::readme::shows_the_parts_of(&source, 2);
}

/// A service that is well: it answers in the time asked for, knows one item, and refuses one user.
fn service() -> Router {
    let item = async |Path(item): Path<u32>, headers: HeaderMap| {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(millis) = text("x-takes").and_then(|millis| millis.parse().ok()) {
            sleep(MS * millis).await;
        }
        match (item, text("x-user")) {
            (7, Some("heavy")) => {
                (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")]).into_response()
            }
            (7, _) => "seven".into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    };
    Router::new()
        .route("/items/{item}", get(item))
        .route("/", post(crate::uploads::drain))
}

fn ask(to: SocketAddr, item: u32, headers: &[(&str, &str)]) -> http::Request<reqwest::Body> {
    let mut request = http::Request::get(format!("http://{to}/items/{item}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(reqwest::Body::default()).unwrap()
}

/// Asks for what is there.
async fn is_served(orders: &Orders, to: SocketAddr) {
    let answer = within(orders.clone().oneshot(ask(to, 7, &[]))).await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn callers_who_leave_the_clients_stack_do_not_close_it_for_others() {
    let (orders, to) = (orders(), serve(service()).await);
    for _ in 0..5 {
        let call = orders.clone().oneshot(ask(to, 7, &[("x-takes", "400")]));
        let left = tokio::time::timeout(60 * MS, call).await;
        assert!(left.is_err(), "it takes longer");
    }
    is_served(&orders, to).await;
}

#[tokio::test]
async fn callers_with_short_deadlines_do_not_close_the_clients_stack_for_others() {
    let (orders, to) = (orders(), serve(service()).await);
    for _ in 0..5 {
        let call = orders.clone().oneshot(ask(to, 7, &[("x-takes", "400")]));
        let deadline = Deadline::within(60 * MS).of_caller();
        assert!(within(deadline.scope(call)).await.is_err());
    }
    is_served(&orders, to).await;
}

#[tokio::test]
async fn unknown_ids_do_not_close_the_clients_stack_for_others() {
    let (orders, to) = (orders(), serve(service()).await);
    for item in 100..105 {
        let answer = within(orders.clone().oneshot(ask(to, item, &[])))
            .await
            .unwrap();
        assert_eq!(answer.status(), 404);
    }
    is_served(&orders, to).await;
}

#[tokio::test]
async fn one_users_refusals_are_returned_at_once_and_do_not_close_the_clients_stack() {
    let (orders, to) = (orders(), serve(service()).await);
    let start = Instant::now();
    for _ in 0..5 {
        let heavy = ask(to, 7, &[("x-user", "heavy")]);
        let answer = within(orders.clone().oneshot(heavy)).await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "30");
    }
    // Nobody has waited for the thirty seconds.
    assert!(start.elapsed() < Duration::from_secs(20));
    is_served(&orders, to).await;
}

#[tokio::test]
async fn uploads_that_break_off_do_not_close_a_proxys_client_stack() {
    let (orders, upstream) = (orders(), serve(service()).await);
    let forward = move |request: http::Request<Body>| async move {
        let body = reqwest::Body::wrap_stream(request.into_body().into_data_stream());
        let request = http::Request::post(format!("http://{upstream}/")).body(body);
        match orders.oneshot(request.unwrap()).await {
            Ok(answer) => answer,
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    };
    let app = Router::new().route("/", post(forward));
    let edge = RespondLayer::new(Http, tower::layer::util::Identity::new());
    send_broken_and_a_whole_one(serve(app.layer(edge)).await).await;
}

async fn serve_stack() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = server(service()).unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

#[tokio::test]
async fn the_servers_stack_outlives_what_callers_do_to_it() {
    let to = serve_stack().await;
    let client = reqwest::Client::new();
    let get = |item: u32, name: &'static str, value: &'static str| {
        let request = client.get(format!("http://{to}/items/{item}"));
        request.header(name, value)
    };
    for _ in 0..5 {
        // A tab that is closed.
        let left = get(7, "x-takes", "400").timeout(60 * MS).send().await;
        assert!(left.is_err());
        // An id that is not there.
        let missing = within(get(100, "x-takes", "0").send()).await.unwrap();
        assert_eq!(missing.status(), 404);
        // A deadline that is too short.
        let short = get(7, "x-takes", "400").header("x-request-timeout-ms", "50");
        assert_eq!(within(short.send()).await.unwrap().status(), 504);
        // An upload that breaks off.
        let mut half = send(to, "content-length: 100\r\n\r\nhalf of it").await;
        tokio::io::AsyncWriteExt::shutdown(&mut half).await.unwrap();
        answer(half).await;
    }
    // All at once: what was held by those who left is free again.
    let all = (0..20).map(|_| get(7, "x-takes", "1").send());
    for answer in within(futures::future::join_all(all)).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
}
