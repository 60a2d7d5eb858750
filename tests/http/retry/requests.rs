//! Requests that are sent again.

use super::support::*;
use buttress::{
    Error,
    http::{Http, Idempotent, ReplayBody, RespondLayer},
    retry::{Attempt, Backoff, Retry},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::sync::{Arc, Mutex};
use tower::{Layer, ServiceBuilder, ServiceExt};

#[tokio::test(start_paused = true)]
async fn only_what_may_be_repeated_is() {
    let idempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"];
    for method in [
        "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "PATCH", "CONNECT", "ODD",
    ] {
        let origin = Origin::answering([answer(503), answer(200)]);
        let method = method.parse::<Method>().unwrap();
        let status = layer()
            .layer(origin.service(9))
            .oneshot(request(method.clone()))
            .await;
        let safe = idempotent.contains(&method.as_str());
        assert_eq!(
            status.unwrap().status(),
            if safe { 200 } else { 503 },
            "{method}"
        );
        assert_eq!(origin.calls(), if safe { 2 } else { 1 }, "{method}");
    }
    let mut keyed = request(Method::POST);
    keyed
        .headers_mut()
        .insert("Idempotency-Key", HeaderValue::from_static("\"7\""));
    let mut marked = request(Method::PATCH);
    marked.extensions_mut().insert(Idempotent);
    for (request, layer) in [
        (keyed, layer()),
        (marked, layer()),
        (request(Method::POST), layer().all_methods()),
    ] {
        let origin = Origin::answering([answer(503), answer(200)]);
        let answer = layer
            .layer(origin.service(9))
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), origin.calls()), (200, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_the_attempt_travels_with_the_request() {
    let origin = Origin::answering([answer(503), answer(503)]);
    let mut grpc = request(Method::POST);
    grpc.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("application/grpc+proto"),
    );
    grpc.headers_mut()
        .insert("x-kept", HeaderValue::from_static("yes"));
    let _ = layer()
        .all_methods()
        .layer(origin.service(9))
        .oneshot(grpc)
        .await;
    let attempts = origin.seen(|seen| seen.head.extensions.get().copied());
    assert_eq!(attempts, [None, Some(Attempt(2)), Some(Attempt(3))]);
    let previous = |seen: &Seen| seen.head.headers.get("grpc-previous-rpc-attempts").cloned();
    let number = |n| Some(HeaderValue::from_static(n));
    assert_eq!(origin.seen(previous), [None, number("1"), number("2")]);
    assert!(
        origin
            .seen(|seen| seen.head.headers["x-kept"] == "yes")
            .iter()
            .all(|kept| *kept)
    );

    let origin = Origin::answering([answer(503)]);
    let _ = layer()
        .layer(origin.service(9))
        .oneshot(request(Method::GET))
        .await;
    assert_eq!(origin.seen(previous), [None, None]);
}

#[tokio::test]
async fn over_tcp_between_hyper_and_axum() {
    use axum::{Router, routing::put};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let handler = move |body: String| {
        let note = Arc::clone(&note);
        async move {
            note.lock().unwrap().push(body);
            match note.lock().unwrap().len() {
                1 | 2 => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                _ => (StatusCode::OK, "stored"),
            }
        }
    };
    // On the server too: there it repeats what its own routes failed to do.
    let inner = Retry::builder("routes")
        .attempts(2)
        .backoff(Backoff::constant(MS))
        .build();
    let inner = RespondLayer::new(Http, inner.unwrap().layer().http());
    let app: Router = Router::new().route("/x", put(handler)).layer(inner);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Full<Bytes>>>();
    let retry = Retry::builder("api")
        .attempts(2)
        .backoff(Backoff::constant(MS))
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(retry.layer().http())
        .map_err(Error::Service)
        .service(client);
    let request = Request::put(format!("http://{address}/x"))
        .body(Full::from("payload"))
        .unwrap();
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "stored"
    );
    assert_eq!(*seen.lock().unwrap(), ["payload"; 3]);
    assert_eq!(retry.snapshot().retries_total, 1);
    server.abort();
}

/// What the README says of the cost. The request itself is not counted.
#[tokio::test]
async fn a_get_with_four_headers_allocates_seven_times() {
    let inner = tower::service_fn(|_: Request<_>| {
        std::future::ready(Ok::<_, Error<std::io::Error>>(answer(200)))
    });
    let mut service = layer().layer(inner);
    let mut count = || {
        let mut request = Request::get("http://api/orders/7");
        for name in ["accept", "user-agent", "x-request-id", "authorization"] {
            request = request.header(name, "value");
        }
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let call = || {
            let answer = tower::Service::call(&mut service, request);
            assert!(futures::FutureExt::now_or_never(answer).unwrap().is_ok());
        };
        allocation_counter::measure(call).count_total
    };
    count();
    assert_eq!(count(), 7);
}
