//! What a response says about another attempt.

use super::support::*;
use buttress::{Error, Kind, Rejected, Retry};
use http::{Method, Request};
use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_to_and_garbage_ignored() {
    let date = |ahead: u64| {
        let at = SystemTime::now() + Duration::from_secs(ahead);
        httpdate::fmt_http_date(at)
    };
    let past = "Wed, 21 Oct 2015 07:28:00 GMT".to_owned();
    for (value, from, to) in [
        ("3".to_owned(), 3_000, 3_301),
        ("0".to_owned(), 10, 12),
        (date(20), 18_900, 22_001),
        (past, 10, 12),
        ("soon".to_owned(), 10, 11),
        ("-5".to_owned(), 10, 11),
    ] {
        for status in [429, 500, 503] {
            let origin = Origin::answering([with(status, "retry-after", &value)]);
            let answer = layer()
                .layer(origin.service(9))
                .oneshot(request(Method::GET))
                .await;
            assert_eq!(answer.unwrap().status(), 200, "{value}");
            assert!(
                (from..=to).contains(&origin.wait()),
                "{value}: {}",
                origin.wait()
            );
        }
    }
    let origin = Origin::answering([with(503, "retry-after", "61")]);
    let answer = layer()
        .layer(origin.service(9))
        .oneshot(request(Method::GET))
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), origin.calls()), (503, 1));
    assert_eq!(answer.headers()["retry-after"], "61");
}

#[tokio::test(start_paused = true)]
async fn a_caller_does_not_wait_for_half_a_minute_by_default() {
    let waits = [("retry-after", "30"), ("grpc-retry-pushback-ms", "30000")];
    for (name, value) in waits {
        let origin = Origin::answering([with(429, name, value)]);
        let (layer, start) = (Retry::new("api").layer().http(), Instant::now());
        let call = layer.layer(origin.service(9)).oneshot(request(Method::GET));
        let answer = call.await.unwrap();
        assert_eq!((answer.status().as_u16(), origin.calls()), (429, 1));
        assert_eq!(answer.headers()[name], value);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_pushback_is_kept_to_exactly_and_anything_else_in_its_place_stops() {
    for (value, wait) in [("70", 70), ("0", 0)] {
        let origin = Origin::answering([with(503, "grpc-retry-pushback-ms", value)]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.wait(), wait);
    }
    for value in ["-1", "", "soon", "1.5", "99999999999"] {
        let origin = Origin::answering([with(503, "grpc-retry-pushback-ms", value)]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.calls(), 1, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_policy_below_gave_is_not_asked_for_again() {
    for (kind, calls) in [
        (Kind::CircuitOpen, 1),
        (Kind::RateLimited, 1),
        (Kind::TimedOut, 2),
        (Kind::LoadFailed, 2),
    ] {
        let mut refused = answer(503);
        refused
            .extensions_mut()
            .insert(Rejected::new(kind, "below"));
        let origin = Origin::answering([refused]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.calls(), calls, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_lets_go_of_its_connection_before_the_wait() {
    struct Connection(Arc<Mutex<Vec<Instant>>>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(Instant::now());
        }
    }
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&dropped);
    let service = service_fn(move |_: Request<_>| {
        let connection = Connection(Arc::clone(&held));
        async { Ok::<_, Error<io::Error>>(answer(503).map(|_| connection)) }
    });
    let start = Instant::now();
    let last = layer().layer(service).oneshot(request(Method::GET)).await;
    assert_eq!(start.elapsed(), 30 * MS);
    let at: Vec<_> = dropped
        .lock()
        .unwrap()
        .iter()
        .map(|at| *at - start)
        .collect();
    assert_eq!(at, [Duration::ZERO, 10 * MS]);
    drop(last);
}
