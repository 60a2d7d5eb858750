//! Backends that fail in every way there is.

use crate::{
    outside::{Act, Outside},
    process::{Gateway, problem},
};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn transient_failures_are_retried_until_one_attempt_succeeds() {
    let backend = Outside::start(|n| match n {
        1 => Act::unavailable(),
        2 => Act::Reset,
        3 => Act::Hang,
        _ => Act::ok(),
    })
    .await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("REQUEST_TIMEOUT_SECONDS", "2"),
    ]);
    let answer = gateway.data().await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (200, "well")
    );
    assert_eq!(backend.hits(), 4);
    assert_eq!(gateway.metrics().await["total_retries"], 3);
}

#[tokio::test]
async fn when_every_attempt_fails_the_answer_is_503() {
    let backend = Outside::start(|_| Act::unavailable()).await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url), ("MAX_RETRIES", "2")]);
    assert_eq!(gateway.data().await.status, 503);
    assert_eq!(backend.hits(), 3);
}

#[tokio::test]
async fn without_jitter_the_waits_are_exactly_half_a_second_one_and_two() {
    let backend = Outside::start(|_| Act::unavailable()).await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("INITIAL_BACKOFF_SECONDS", "0.5"),
    ]);
    assert_eq!(gateway.data().await.status, 503);
    let gaps = backend.gaps();
    for (gap, wait) in gaps.iter().zip([500, 1000, 2000]) {
        assert!(*gap >= wait * MS && *gap < (wait + 400) * MS, "{gaps:?}");
    }
    assert_eq!(gaps.len(), 3);
}

#[tokio::test]
async fn full_jitter_never_waits_longer_than_the_backoff() {
    let backend = Outside::start(|_| Act::unavailable()).await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("BACKOFF_JITTER", "full"),
        ("INITIAL_BACKOFF_SECONDS", "0.2"),
    ]);
    assert_eq!(gateway.data().await.status, 503);
    let gaps = backend.gaps();
    let within = |(gap, wait): (&Duration, u32)| *gap < (wait + 150) * MS;
    assert!(gaps.iter().zip([200, 400, 800]).all(within), "{gaps:?}");
    let exact = |(gap, wait): (&Duration, u32)| gap.abs_diff(wait * MS) < 5 * MS;
    assert!(!gaps.iter().zip([200, 400, 800]).all(exact));
}

#[tokio::test]
async fn a_hanging_backend_is_given_up_on_after_the_timeout_of_each_attempt() {
    let backend = Outside::start(|_| Act::Hang).await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("REQUEST_TIMEOUT_SECONDS", "0.3"),
    ]);
    let begun = Instant::now();
    let answer = gateway.data().await;
    // Four attempts, and waits of 20, 40 and 80 ms.
    let took = begun.elapsed();
    assert!(problem(&answer, 503).contains("too long"), "{answer:?}");
    assert!(took >= 1340 * MS && took < 2500 * MS, "{took:?}");
    assert_eq!(backend.hits(), 4);
}

#[tokio::test]
async fn reset_connections_are_retried_then_503() {
    let backend = Outside::start(|_| Act::Reset).await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
    assert_eq!(gateway.data().await.status, 503);
    assert_eq!(backend.hits(), 4);
    assert_eq!(gateway.metrics().await["total_retries"], 3);
}

#[tokio::test]
async fn a_backend_that_does_not_listen_is_retried_then_503() {
    let gateway = Gateway::start(&[("BACKEND_URL", "http://127.0.0.1:1")]);
    let answer = gateway.data().await;
    assert!(problem(&answer, 503).contains("reached"), "{answer:?}");
    assert_eq!(gateway.metrics().await["total_retries"], 3);
}

#[tokio::test]
async fn a_retry_never_comes_before_the_backends_own_retry_after() {
    let backend = Outside::start(|n| match n {
        1 => Act::answer("503 Service Unavailable", "retry-after: 1\r\n", "later"),
        _ => Act::ok(),
    })
    .await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
    assert_eq!(gateway.data().await.status, 200);
    let gaps = backend.gaps();
    assert!(gaps[0] >= 1000 * MS && gaps[0] < 1900 * MS, "{gaps:?}");
}

#[tokio::test]
async fn a_slow_stream_is_passed_on_while_it_comes_and_may_outlast_the_timeout() {
    let chunks = vec!["one ", "two ", "three ", "four"];
    let backend = Outside::start(move |_| {
        let end = Act::Answer("0\r\n\r\n".to_owned());
        Act::Stream(chunks.clone(), 500 * MS, Box::new(end))
    })
    .await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("REQUEST_TIMEOUT_SECONDS", "1.5"),
    ]);
    let begun = Instant::now();
    let mut response = gateway.get("/api/v1/data").send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(&first[..], b"one ");
    assert!(begun.elapsed() < 1900 * MS);
    assert_eq!(response.text().await.unwrap(), "two three four");
    assert!(begun.elapsed() >= 2500 * MS);
    assert_eq!(backend.hits(), 1);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_broken_off() {
    let backend = Outside::start(|_| Act::Stream(vec!["half"], MS, Box::new(Act::Hang))).await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("REQUEST_TIMEOUT_SECONDS", "0.5"),
        ("FAILURE_THRESHOLD", "2"),
    ]);
    for _ in 0..2 {
        assert_eq!(gateway.state().await, "CLOSED");
        let begun = Instant::now();
        let response = gateway.get("/api/v1/data").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.is_err());
        let took = begun.elapsed();
        assert!(took >= 500 * MS && took < 2000 * MS, "{took:?}");
    }
    // Nothing of it was sent again, and the breaker has learnt from the bodies.
    assert_eq!(backend.hits(), 2);
    assert_eq!(gateway.state().await, "OPEN");
}

#[tokio::test]
async fn a_reset_within_the_body_is_a_broken_body_and_never_a_short_success() {
    let backend = Outside::start(|_| Act::Stream(vec!["half"], MS, Box::new(Act::Reset))).await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url), ("FAILURE_THRESHOLD", "2")]);
    for _ in 0..2 {
        let response = gateway.get("/api/v1/data").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.is_err());
    }
    assert_eq!(backend.hits(), 2);
    // The breaker has learnt from the bodies, not from the statuses.
    assert_eq!(gateway.state().await, "OPEN");
}
