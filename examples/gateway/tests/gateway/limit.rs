//! The rate limit, for each client.

use crate::process::{Answer, Gateway, problem, read};
use std::time::Duration;

const FIVE: &[(&str, &str)] = &[
    ("RATE_LIMIT_REQUESTS_PER_WINDOW", "5"),
    ("RATE_LIMIT_WINDOW_SECONDS", "60"),
];

/// As a client at this address that says it speaks for another.
async fn ask(gateway: &Gateway, from: &str, for_: Option<&str>) -> Answer {
    let client = reqwest::Client::builder().no_proxy();
    let client = client.local_address(from.parse::<std::net::IpAddr>().ok());
    let mut request = client
        .build()
        .unwrap()
        .get(format!("{}/api/v1/data", gateway.url));
    if let Some(other) = for_ {
        request = request.header("x-forwarded-for", other);
    }
    read(request).await
}

#[tokio::test]
async fn over_the_limit_it_is_429_with_retry_after_and_the_quota() {
    let gateway = Gateway::start(FIVE);
    for left in (0..5).rev() {
        let answer = gateway.data().await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("ratelimit").contains(&format!("r={left}")),
            "{answer:?}"
        );
        assert!(
            answer.header("ratelimit-policy").contains("q=5;w=60"),
            "{answer:?}"
        );
    }
    for _ in 0..2 {
        let answer = gateway.data().await;
        assert!(problem(&answer, 429).contains("rate limited"), "{answer:?}");
        let after: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&after), "{answer:?}");
        assert!(answer.header("ratelimit").contains("r=0"), "{answer:?}");
        assert!(
            answer.header("ratelimit-policy").contains("q=5;w=60"),
            "{answer:?}"
        );
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics["rate_limit_allowed"], 5);
    assert_eq!(metrics["rate_limit_blocked"], 2);
}

#[tokio::test]
async fn requests_are_let_in_again_when_retry_after_has_passed() {
    let gateway = Gateway::start(&[
        ("RATE_LIMIT_REQUESTS_PER_WINDOW", "2"),
        ("RATE_LIMIT_WINDOW_SECONDS", "1"),
    ]);
    for status in [200, 200, 429] {
        assert_eq!(gateway.data().await.status, status);
    }
    tokio::time::sleep(Duration::from_millis(1050)).await;
    for status in [200, 200, 429] {
        assert_eq!(gateway.data().await.status, status);
    }
}

#[tokio::test]
async fn health_and_metrics_are_not_limited() {
    let gateway = Gateway::start(&[("RATE_LIMIT_REQUESTS_PER_WINDOW", "1")]);
    for path in ["/health", "/metrics", "/health", "/metrics"] {
        assert_eq!(read(gateway.get(path)).await.status, 200);
    }
    assert_eq!(gateway.data().await.status, 200);
    assert_eq!(read(gateway.get("/health")).await.status, 200);
}

#[tokio::test]
async fn a_limited_request_reaches_neither_the_breaker_nor_the_backend() {
    let mut settings = FIVE.to_vec();
    settings.extend([
        ("FLAKY_FAILURE_RATE", "1"),
        ("MAX_RETRIES", "0"),
        ("FAILURE_THRESHOLD", "6"),
    ]);
    let gateway = Gateway::start(&settings);
    for _ in 0..9 {
        gateway.data().await;
    }
    assert_eq!(gateway.state().await, "CLOSED");
}

#[tokio::test]
async fn every_client_address_has_its_own_quota() {
    let gateway = Gateway::start(FIVE);
    for from in ["127.0.0.1", "127.0.0.2"] {
        for n in 0..6 {
            let status = if n < 5 { 200 } else { 429 };
            assert_eq!(ask(&gateway, from, None).await.status, status, "{from} {n}");
        }
    }
}

#[tokio::test]
async fn what_a_stranger_says_about_its_address_is_ignored() {
    let gateway = Gateway::start(FIVE);
    for n in 0..6 {
        let status = if n < 5 { 200 } else { 429 };
        let other = format!("203.0.113.{n}");
        assert_eq!(
            ask(&gateway, "127.0.0.1", Some(&other)).await.status,
            status
        );
    }
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients_and_a_stranger_still_does_not() {
    let mut settings = FIVE.to_vec();
    settings.push(("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"));
    let gateway = Gateway::start(&settings);
    for other in ["203.0.113.1", "203.0.113.2"] {
        for n in 0..6 {
            let status = if n < 5 { 200 } else { 429 };
            // What stands left of it was written by the client itself.
            let chain = format!("198.51.100.{n}, {other}, 10.1.2.3");
            assert_eq!(
                ask(&gateway, "127.0.0.1", Some(&chain)).await.status,
                status
            );
        }
    }
    for n in 0..6 {
        let status = if n < 5 { 200 } else { 429 };
        let other = format!("203.0.113.{}", 10 + n);
        assert_eq!(
            ask(&gateway, "127.0.0.2", Some(&other)).await.status,
            status
        );
    }
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let gateway = Gateway::start(&[
        ("RATE_LIMIT_ENABLED", "false"),
        ("RATE_LIMIT_REQUESTS_PER_WINDOW", "1"),
    ]);
    for _ in 0..5 {
        let answer = gateway.data().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), "");
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics["rate_limit_blocked"], 0);
}
