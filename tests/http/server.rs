//! An axum `Router` behind our layers.

use crate::tally::{FAILURE, IGNORED, REFUSED, SUCCESS, Tally, eventually, overloaded, within};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
    response::IntoResponse,
    routing::get,
};
use buttress::{
    GuardLayer, Kind, Rejected,
    guard::End,
    http::{Http, RespondLayer},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::{Service, ServiceExt};

pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn guarded(tally: &Tally, app: Router) -> Router {
    app.layer(RespondLayer::new(
        Http,
        GuardLayer::new(tally.clone()).http(),
    ))
}

async fn call(app: &Router, method: Method, path: &str) -> axum::response::Response {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

/// A body of these chunks that ends when it is allowed to.
fn gated(gate: &Arc<Semaphore>) -> Body {
    let gate = gate.clone();
    let chunks = stream::iter(["first", "second"]).then(move |chunk| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(chunk)
        }
    });
    Body::from_stream(chunks)
}

#[tokio::test]
async fn sixty_connections_share_one_limit_and_its_rejections_are_responses() {
    let tally = Tally::limited(5);
    let app = Router::new()
        .route("/a", get(|| async { "a" }))
        .route("/b", get(|| async { "b" }));
    let address = serve(guarded(&tally, app)).await;
    let (admitted, limited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let calls = (0..60).map(|n| {
        let (admitted, limited) = (&admitted, &limited);
        async move {
            // A client of its own, so a connection of its own.
            let client = reqwest::Client::new();
            let path = if n % 2 == 0 { "a" } else { "b" };
            let response = client.get(format!("http://{address}/{path}"));
            let response = response.send().await.unwrap();
            match response.status().as_u16() {
                200 => admitted.fetch_add(1, Relaxed),
                429 => {
                    assert_eq!(response.headers()["retry-after"], "60");
                    let content_type = &response.headers()["content-type"];
                    assert_eq!(content_type, "application/problem+json");
                    let problem = response.text().await.unwrap();
                    assert!(
                        problem.contains(r#""detail":"tally: rate limited""#),
                        "{problem}"
                    );
                    limited.fetch_add(1, Relaxed)
                }
                status => panic!("{status}"),
            };
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!((admitted.into_inner(), limited.into_inner()), (5, 55));
    assert_eq!(tally.ended(5).await, [SUCCESS; 5]);
}

#[tokio::test]
async fn a_permit_is_held_until_the_last_byte_of_the_body() {
    let (tally, gate) = (Tally::default(), Arc::new(Semaphore::new(0)));
    let handler = {
        let gate = gate.clone();
        move || async move { gated(&gate) }
    };
    let address = serve(guarded(&tally, Router::new().route("/", get(handler)))).await;
    let mut response = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!((tally.in_flight(), tally.ends().len()), (1, 0));
    gate.add_permits(1);
    assert_eq!(within(response.chunk()).await.unwrap().unwrap(), "first");
    assert_eq!((tally.in_flight(), tally.ends().len()), (1, 0));
    gate.add_permits(1);
    assert_eq!(within(response.chunk()).await.unwrap().unwrap(), "second");
    assert!(within(response.chunk()).await.unwrap().is_none());
    assert_eq!(tally.ended(1).await, [SUCCESS]);
}

#[tokio::test]
async fn bodies_that_nobody_reads_end_with_their_head() {
    let tally = Tally::default();
    let app = Router::new()
        .route("/full", get(|| async { "some text" }))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route("/not-modified", get(|| async { StatusCode::NOT_MODIFIED }));
    let address = serve(guarded(&tally, app)).await;
    let client = reqwest::Client::new();
    let mut n = 0;
    for path in ["full", "empty", "not-modified"] {
        for method in [Method::HEAD, Method::GET] {
            let url = format!("http://{address}/{path}");
            client.request(method, url).send().await.unwrap();
            n += 1;
            assert_eq!(tally.ended(n).await, vec![SUCCESS; n]);
        }
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_not_the_services_failure() {
    let (tally, gate) = (Tally::default(), Arc::new(Semaphore::new(1)));
    let handler = {
        let gate = gate.clone();
        move || async move { gated(&gate) }
    };
    let address = serve(guarded(&tally, Router::new().route("/", get(handler)))).await;
    let mut response = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(within(response.chunk()).await.unwrap().unwrap(), "first");
    drop(response);
    assert_eq!(tally.ended(1).await, [SUCCESS]);
}

#[tokio::test]
async fn an_error_in_the_body_is_a_failure_and_a_panic_is_a_panic() {
    let tally = Tally::default();
    let broken = || async {
        let frames = [Ok("some"), Err(std::io::Error::other("disk"))];
        Body::from_stream(stream::iter(frames))
    };
    let panics = || async {
        let frame = |n: u32| -> Result<String, Infallible> { panic!("in frame {n} of the body") };
        Body::from_stream(stream::iter([1]).map(frame))
    };
    let app = Router::new().route("/broken", get(broken));
    let app = guarded(&tally, app.route("/panics", get(panics)));
    let response = call(&app, Method::GET, "/broken").await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(tally.ends(), [FAILURE]);
    let response = call(&app, Method::GET, "/panics").await;
    let reading = AssertUnwindSafe(response.into_body().collect());
    assert!(reading.catch_unwind().await.is_err());
    assert_eq!(tally.ended(2).await, [FAILURE, End::Panicked]);
}

#[tokio::test]
async fn statuses_are_classified_and_the_size_of_a_body_is_still_known() {
    let tally = Tally::default();
    let status = |axum::extract::Path(status): axum::extract::Path<u16>| async move {
        (
            StatusCode::from_u16(status).unwrap(),
            [("retry-after", "2")],
            "text",
        )
    };
    let app = guarded(&tally, Router::new().route("/{status}", get(status)));
    for path in ["/200", "/404", "/500", "/503", "/429"] {
        let response = call(&app, Method::GET, path).await;
        assert_eq!(response.headers()["content-length"], "4");
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "text"
        );
    }
    let shed = overloaded(Some(2000));
    assert_eq!(tally.ends(), [SUCCESS, IGNORED, FAILURE, shed, shed]);
}

#[tokio::test]
async fn a_rejection_answered_by_an_inner_edge_means_the_same_to_the_guards_outside() {
    let (outer, inner) = (Tally::default(), Tally::default());
    inner.refuse(Kind::CircuitOpen);
    let app = Router::new().route("/", get(|| async { "in" }));
    let app = guarded(&outer, guarded(&inner, app));
    let response = call(&app, Method::GET, "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["buttress-rejected"], "circuit-open");
    assert!(response.extensions().get::<Rejected>().is_some());
    drop(response);
    assert_eq!(outer.ends(), [REFUSED]);
    // The same response over the wire, where no extensions travel.
    let far = Tally::default();
    let address = serve(guarded(
        &inner,
        Router::new().route("/", get(|| async { "in" })),
    ))
    .await;
    let proxy = move || async move {
        let response = reqwest::get(format!("http://{address}/")).await.unwrap();
        http::Response::from(response).map(Body::new)
    };
    let app = guarded(&far, Router::new().route("/", get(proxy)));
    drop(call(&app, Method::GET, "/").await);
    assert_eq!(far.ended(1).await, [REFUSED]);
}

#[tokio::test]
async fn a_tuple_of_layers_and_a_service_builder_are_stacks_and_a_closure_is_a_responder() {
    let (outer, inner) = (Tally::default(), Tally::default());
    inner.refuse(Kind::Overloaded);
    let layers = || {
        (
            GuardLayer::new(outer.clone()).http(),
            GuardLayer::new(inner.clone()).http(),
        )
    };
    let teapot = |_: Rejected| (StatusCode::IM_A_TEAPOT, "short and stout").into_response();
    let app = Router::new().route("/", get(|| async { "in" }));
    let tuple = app.clone().layer(RespondLayer::new(Http, layers()));
    let (a, b) = layers();
    let builder = tower::ServiceBuilder::new().layer(a).layer(b);
    let builder = app.clone().layer(RespondLayer::new(Http, builder));
    for app in [tuple, builder] {
        assert_eq!(call(&app, Method::GET, "/").await.status(), 503);
    }
    // The first of the tuple is the outermost: it saw the call that the second one refused.
    assert_eq!(outer.ends(), [overloaded(None); 2]);
    let plain = app.layer(RespondLayer::new(
        teapot,
        GuardLayer::new(inner.clone()).http(),
    ));
    assert_eq!(call(&plain, Method::GET, "/").await.status(), 418);
}

#[tokio::test]
async fn errors_of_the_service_pass_the_edge_unchanged() {
    let service = tower::service_fn(|fails: bool| async move {
        if fails {
            Err("boom")
        } else {
            Ok(axum::response::Response::new(Body::empty()))
        }
    });
    let tally = Tally::default();
    let edge = RespondLayer::new(Http, GuardLayer::new(tally.clone()).http());
    let mut service = tower::Layer::layer(&edge, service);
    assert!(service.ready().await.unwrap().call(false).await.is_ok());
    assert_eq!(
        service.ready().await.unwrap().call(true).await.unwrap_err(),
        "boom"
    );
    tally.refuse(Kind::TimedOut);
    let response = service.ready().await.unwrap().call(true).await.unwrap();
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn a_rejection_while_the_service_gets_ready_is_answered_without_calling_it() {
    use buttress::Error;
    use std::task::Poll;
    #[derive(Clone)]
    struct Shut;
    impl Service<()> for Shut {
        type Response = axum::response::Response<Bytes>;
        type Error = Error<Infallible>;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err(Rejected::new(Kind::Overloaded, "shut").into()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("called although it was not ready")
        }
    }
    let shut = tower::layer::layer_fn(|_| Shut);
    let edge = RespondLayer::new(Http, shut);
    let anything = tower::service_fn(|(): ()| async { Ok::<_, Infallible>(()) });
    let response = tower::Layer::layer(&edge, anything)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn calls_dropped_before_their_head_are_cancelled() {
    let tally = Tally::default();
    let app = Router::new().route("/", get(std::future::pending::<()>));
    let address = serve(guarded(&tally, app)).await;
    let call = tokio::spawn(reqwest::get(format!("http://{address}/")));
    eventually(|| tally.in_flight() == 1).await;
    call.abort();
    assert_eq!(tally.ended(1).await, [End::Cancelled]);
    assert_eq!(tally.admitted(), 1);
}

#[test]
fn the_ready_made_answer_is_usable_from_a_closure() {
    let answer = |rejected: Rejected| -> axum::response::Response { Http.respond(rejected) };
    assert_eq!(answer(Rejected::new(Kind::NotReady, "p")).status(), 503);
}

#[tokio::test]
async fn a_handler_can_return_the_error_of_a_policy() {
    let breaker = buttress::CircuitBreaker::new("stock");
    let by_hand = breaker.clone();
    let ask = async move || -> Result<&'static str, buttress::Error<StatusCode>> {
        let failed = async || Err(buttress::Error::Service(StatusCode::IM_A_TEAPOT));
        by_hand.run(failed).await
    };
    let app: Router = Router::new().route("/", get(ask));
    let answer = async || {
        let request = Request::new(Body::empty());
        app.clone().oneshot(request).await.unwrap()
    };

    assert_eq!(answer().await.status(), StatusCode::IM_A_TEAPOT);
    breaker.force_open();
    let refused = answer().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["buttress-rejected"], "circuit-open");
    let rejected = refused.extensions().get::<Rejected>().unwrap();
    assert_eq!(rejected.kind(), Kind::CircuitOpen);
}
