//! tower-http's layers above, between and below ours, in stacks whose bodies nobody boxes.

use axum::{Router, routing::get};
use buttress::{
    Cache, CircuitBreaker, Error, LoadShed, RateLimiter, Retry, Timeout,
    circuit_breaker::State,
    http::{DeadlineHeaderLayer, Http, RespondLayer, StoredResponse},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use std::{convert::Infallible, io, time::Duration};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    compression::CompressionLayer,
    cors::CorsLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Seven;

impl MakeRequestId for Seven {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        Some(RequestId::new("7".parse().unwrap()))
    }
}

/// What tower-http has for a service, below what is in the builder.
macro_rules! theirs {
    ($builder:expr) => {
        $builder
            .layer(SetRequestIdLayer::x_request_id(Seven))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(TraceLayer::new_for_http())
            .layer(CorsLayer::permissive())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                SECOND,
            ))
            .layer(CompressionLayer::new())
    };
}

fn request(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(format!("http://orders{path}"));
    let request = request.header(header::ACCEPT_ENCODING, "gzip");
    request.body(Full::default()).unwrap()
}

/// Long enough to be worth compressing.
async fn orders<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("[]".repeat(100)));
    if request.uri().path() == "/broken" {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

fn limiter(quota: u32) -> RateLimiter {
    RateLimiter::new("api", quota, 60 * SECOND).unwrap()
}

/// Asks twice, where the limit is one; the fields of the first answer.
async fn asked_twice<S, B>(stack: S) -> HeaderMap
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data: Send, Error: std::fmt::Debug>,
{
    let Ok(answer) = stack.clone().oneshot(request("/orders")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (parts, body) = answer.into_parts();
    assert!(!body.collect().await.unwrap().to_bytes().is_empty());
    let Ok(refused) = stack.oneshot(request("/orders")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    parts.headers
}

fn has_all_of_theirs(headers: &HeaderMap) {
    assert_eq!(headers["x-request-id"], "7");
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}

#[tokio::test]
async fn all_of_tower_http_stands_above_ours() {
    let ours = (
        DeadlineHeaderLayer::at_most("api", SECOND),
        limiter(1).layer(),
        LoadShed::new("api").queued().layer().http(),
    );
    let stack = theirs!(ServiceBuilder::new())
        .layer(RespondLayer::new(Http, ours))
        .service(service_fn(orders));
    has_all_of_theirs(&asked_twice(stack).await);
}

#[tokio::test]
async fn all_of_tower_http_stands_below_ours() {
    let ours = (limiter(1).layer(), LoadShed::new("api").layer().http());
    let stack = theirs!(ServiceBuilder::new().layer(RespondLayer::new(Http, ours)))
        .service(service_fn(orders));
    has_all_of_theirs(&asked_twice(stack).await);
}

#[tokio::test]
async fn tower_http_stands_between_ours() {
    let inner = (
        limiter(1).layer(),
        LoadShed::new("api").queued().layer().http(),
    );
    let outer = DeadlineHeaderLayer::at_most("api", SECOND);
    let stack = theirs!(ServiceBuilder::new().layer(RespondLayer::new(Http, outer)))
        .layer(RespondLayer::new(Http, inner))
        .service(service_fn(orders));
    has_all_of_theirs(&asked_twice(stack).await);
}

#[tokio::test]
async fn tower_http_stands_within_the_stack_of_a_respond_layer() {
    let stack = (
        limiter(1).layer(),
        TraceLayer::new_for_http(),
        CompressionLayer::new(),
        LoadShed::new("api").layer().http(),
    );
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new(Http, stack))
        .service(service_fn(orders));
    let headers = asked_twice(stack).await;
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
}

#[tokio::test]
async fn a_cors_preflight_is_answered_without_a_call() {
    let breaker = CircuitBreaker::new("api");
    breaker.force_open();
    let stack = ServiceBuilder::new()
        .layer(CorsLayer::permissive())
        .layer(RespondLayer::new(Http, breaker.layer().http()))
        .service(service_fn(orders));
    let preflight = Request::options("/orders")
        .header(header::ORIGIN, "http://elsewhere")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
    let preflight = preflight.body(Full::<Bytes>::default()).unwrap();
    let Ok(answer) = stack.oneshot(preflight).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn tower_https_timeout_above_ours_cancels_the_call() {
    let shed = LoadShed::builder("api").fixed(1).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            SECOND,
        ))
        .layer(RespondLayer::new(Http, shed.layer().http()))
        .service(service_fn(async |request: Request<Full<Bytes>>| {
            tokio::time::sleep(10 * SECOND).await;
            orders(request).await
        }));
    let Ok(answer) = stack.oneshot(request("/orders")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(shed.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_cache_keeps_what_tower_http_compressed() {
    let pages = Cache::builder("pages").build::<StoredResponse>().unwrap();
    let cached = pages.http_layer().vary([header::ACCEPT_ENCODING]);
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CorsLayer::new())
        .layer(RespondLayer::new(Http, cached))
        .layer(CompressionLayer::new())
        .service(service_fn(async |request: Request<Full<Bytes>>| {
            let mut answer = orders(request).await?;
            let fresh = "max-age=60".parse().unwrap();
            answer.headers_mut().insert(header::CACHE_CONTROL, fresh);
            Ok::<_, Infallible>(answer)
        }));
    for loads in [1, 1] {
        let Ok(answer) = stack.clone().oneshot(request("/orders")).await;
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(&[0x1f, 0x8b]), "{body:?}");
        assert_eq!(pages.snapshot().loads_total, loads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_layers_stand_above_tower_https() {
    let (breaker, retry) = (
        CircuitBreaker::builder("orders")
            .consecutive_failures(1)
            .build()
            .unwrap(),
        Retry::new("orders"),
    );
    let client = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(breaker.layer().http())
        .layer(TraceLayer::new_for_http())
        .layer(retry.layer().http())
        .layer(Timeout::new("orders", SECOND).layer())
        .layer(SetRequestIdLayer::x_request_id(Seven))
        .layer(TraceLayer::new_for_http())
        .map_err(Error::<io::Error>::Service)
        .service(service_fn(async |request| match orders(request).await {
            Ok(answer) => Ok::<_, io::Error>(answer),
        }));
    let client = buttress::check::<Request<Full<Bytes>>, _>(client);
    let answer = client.clone().oneshot(request("/orders")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(answer);
    let answer = client.clone().oneshot(request("/broken")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(answer);
    assert_eq!(breaker.state(), State::Open);
    assert!(retry.snapshot().retries_total > 0);
    let refused = client.oneshot(request("/orders")).await;
    assert!(matches!(refused, Err(Error::Rejected(_))));
}

#[tokio::test]
async fn a_router_takes_a_builder_of_both() {
    let ours = (
        limiter(1).layer(),
        LoadShed::new("api").queued().layer().http(),
    );
    let layers = theirs!(ServiceBuilder::new().layer(RequestBodyLimitLayer::new(1024)))
        .layer(RespondLayer::new(Http, ours))
        .layer(TraceLayer::new_for_http());
    let app = Router::new().route("/orders", get(async || "[]".repeat(100)));
    let app = app
        .layer(layers)
        .map_request(|request: Request<Full<Bytes>>| request.map(axum::body::Body::new));
    has_all_of_theirs(&asked_twice(app).await);
}

#[tokio::test]
async fn a_server_whose_own_timeout_answers_408_is_failing() {
    let breaker = CircuitBreaker::builder("slow")
        .consecutive_failures(3)
        .build()
        .unwrap();
    let limit =
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(1));
    let app = Router::new()
        .route("/", get(std::future::pending::<()>))
        .layer(RespondLayer::new(Http, (breaker.layer().http(), limit)));
    let address = crate::server::serve(app).await;
    let ask = async || {
        let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
        answer.status()
    };
    for _ in 0..3 {
        assert_eq!(ask().await, StatusCode::REQUEST_TIMEOUT);
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
}
