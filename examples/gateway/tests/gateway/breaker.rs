//! CLOSED, OPEN, HALF_OPEN.

use crate::{
    outside::{Act, Outside},
    process::{Gateway, eventually, problem},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const DOWN: u8 = 0;
const SLOW: u8 = 1;
const WELL: u8 = 2;

/// A backend that can be told how it is.
async fn backend() -> (Outside, Arc<AtomicU8>) {
    let mood = Arc::new(AtomicU8::new(DOWN));
    let now = mood.clone();
    let backend = Outside::start(move |_| match now.load(SeqCst) {
        DOWN => Act::unavailable(),
        SLOW => {
            let end = Act::Answer("0\r\n\r\n".to_owned());
            Act::Stream(vec!["slow"], Duration::from_millis(300), Box::new(end))
        }
        _ => Act::ok(),
    })
    .await;
    (backend, mood)
}

#[tokio::test]
async fn it_opens_after_the_fifth_failed_request_whatever_the_retries() {
    let (backend, _) = backend().await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
    for n in 1..=5 {
        assert_eq!(gateway.state().await, "CLOSED", "before request {n}");
        assert_eq!(gateway.data().await.status, 503);
        // No budget cuts the attempts short: four for each request.
        assert_eq!(backend.hits(), 4 * n);
    }
    assert_eq!(gateway.state().await, "OPEN");
    let begun = Instant::now();
    let answer = gateway.data().await;
    assert!(begun.elapsed() < Duration::from_millis(300));
    assert!(problem(&answer, 503).contains("circuit open"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(backend.hits(), 20);
    assert_eq!(gateway.metrics().await["total_retries"], 15);
}

#[tokio::test]
async fn a_success_in_between_starts_the_count_again() {
    let (backend, mood) = backend().await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url), ("MAX_RETRIES", "0")]);
    for _ in 0..3 {
        mood.store(DOWN, SeqCst);
        for _ in 0..4 {
            assert_eq!(gateway.data().await.status, 503);
        }
        mood.store(WELL, SeqCst);
        assert_eq!(gateway.data().await.status, 200);
    }
    assert_eq!(gateway.state().await, "CLOSED");
}

#[tokio::test]
async fn a_request_that_a_retry_saved_has_not_failed() {
    let backend = Outside::start(|n| {
        if n % 2 == 1 {
            Act::unavailable()
        } else {
            Act::ok()
        }
    })
    .await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url), ("FAILURE_THRESHOLD", "1")]);
    for _ in 0..3 {
        assert_eq!(gateway.data().await.status, 200);
    }
    assert_eq!(gateway.state().await, "CLOSED");
}

#[tokio::test]
async fn after_the_recovery_timeout_one_probe_decides() {
    let (backend, mood) = backend().await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("MAX_RETRIES", "0"),
        ("FAILURE_THRESHOLD", "2"),
    ]);
    for _ in 0..2 {
        gateway.data().await;
    }
    // The wait is the same after every trip: no growth, no jitter.
    for round in 1..=3 {
        let opened = Instant::now();
        assert_eq!(gateway.state().await, "OPEN");
        let asked = backend.hits();
        eventually("a probe is let through", async || {
            gateway.data().await;
            backend.hits() > asked
        })
        .await;
        let waited = opened.elapsed();
        let second = Duration::from_secs(1);
        assert!(
            waited > second * 9 / 10 && waited < second * 2,
            "{round}: {waited:?}"
        );
        assert_eq!(backend.hits(), asked + 1);
    }
    // HALF_OPEN while the probe runs, and only one runs.
    mood.store(SLOW, SeqCst);
    let asked = backend.hits();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(gateway.state().await, "HALF_OPEN");
    let (one, other) = tokio::join!(gateway.data(), gateway.data());
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    assert_eq!(backend.hits(), asked + 1);
    assert_eq!(gateway.state().await, "CLOSED");
    assert_eq!(gateway.data().await.status, 200);
}

#[tokio::test]
async fn clients_that_hang_up_do_not_open_it() {
    let backend = Outside::start(|_| Act::Hang).await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("FAILURE_THRESHOLD", "2"),
        ("REQUEST_TIMEOUT_SECONDS", "5"),
    ]);
    for n in 1..=3 {
        let impatient = gateway
            .get("/api/v1/data")
            .timeout(Duration::from_millis(400));
        assert!(impatient.send().await.is_err());
        eventually("the backend is asked", async || backend.hits() == n).await;
    }
    assert_eq!(gateway.state().await, "CLOSED");
}

#[tokio::test]
async fn a_503_with_retry_after_is_a_failed_request_and_does_not_change_the_recovery_timeout() {
    let full = "retry-after: 61\r\n";
    let backend =
        Outside::start(move |_| Act::answer("503 Service Unavailable", full, "later")).await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url), ("FAILURE_THRESHOLD", "1")]);
    let answer = gateway.data().await;
    // More than a minute is too long to keep a client for: it is told instead.
    assert_eq!((answer.status.as_u16(), backend.hits()), (503, 1));
    assert_eq!(answer.header("retry-after"), "61");
    let answer = gateway.data().await;
    assert_eq!((answer.status.as_u16(), backend.hits()), (503, 1));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_probe_whose_client_hangs_up_makes_room_for_another() {
    let backend = Outside::start(|n| match n {
        1 => Act::unavailable(),
        2 => Act::Hang,
        _ => Act::ok(),
    })
    .await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("MAX_RETRIES", "0"),
        ("FAILURE_THRESHOLD", "1"),
        ("REQUEST_TIMEOUT_SECONDS", "60"),
        ("RECOVERY_TIMEOUT_SECONDS", "0.2"),
    ]);
    assert_eq!(gateway.data().await.status, 503);
    eventually("half-open", async || gateway.state().await == "HALF_OPEN").await;
    let impatient = gateway
        .get("/api/v1/data")
        .timeout(Duration::from_millis(300));
    assert!(impatient.send().await.is_err());
    eventually("another probe", async || gateway.data().await.status == 200).await;
    assert_eq!(
        (gateway.state().await.as_str(), backend.hits()),
        ("CLOSED", 3)
    );
}
