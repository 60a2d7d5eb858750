//! A limiter and a breaker on an axum `Router`, over real TCP.

use crate::{server::serve, tally::eventually};
use axum::{Router, extract::ConnectInfo, http::StatusCode, routing::get};
use buttress::{
    GuardLayer,
    circuit_breaker::{CircuitBreaker, State},
    http::{ClientAddr, Http, RateLimitHeadersLayer, RespondLayer, TrustedProxies},
    rate_limit::RateLimiter,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::net::TcpListener;

const MINUTE: Duration = Duration::from_secs(60);

async fn status(address: SocketAddr) -> u16 {
    let client = reqwest::Client::new();
    let response = client.get(format!("http://{address}/")).send().await;
    let response = response.unwrap();
    let status = response.status().as_u16();
    assert_eq!(
        response.headers().contains_key("retry-after"),
        status != 200 && status != 500
    );
    status
}

#[tokio::test]
async fn sixty_connections_share_one_limit_and_one_breaker() {
    let limiter = RateLimiter::new("clients", 50, MINUTE).unwrap();
    let breaker = CircuitBreaker::new("backend");
    let broken = Arc::new(AtomicUsize::new(0));
    let handler = {
        let broken = broken.clone();
        move || async move {
            broken.fetch_add(1, Relaxed);
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let stack = (limiter.layer(), breaker.layer().http());
    let app = Router::new()
        .route("/", get(handler))
        .layer(RespondLayer::new(Http, stack));
    let address = serve(app).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(status(address).await);
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(500), count(503), count(429)), (5, 45, 10));
    assert_eq!((breaker.state(), broken.load(Relaxed)), (State::Open, 5));
    assert_eq!(limiter.snapshot().admitted_total, 50);
}

#[tokio::test]
async fn one_fused_layer_of_both_does_the_same() {
    let limiter = RateLimiter::new("clients", 3, MINUTE).unwrap();
    let breaker = CircuitBreaker::new("backend");
    let both = GuardLayer::new((limiter, breaker)).http();
    let app = Router::new().route("/", get(|| async { "in" }));
    let address = serve(app.layer(RespondLayer::new(Http, both))).await;
    let statuses = [(); 4].map(|()| status(address));
    let statuses = futures::future::join_all(statuses).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 1);
}

#[tokio::test]
async fn every_response_tells_what_is_left_and_the_refused_ones_when_to_come_back() {
    let limiter = RateLimiter::new("clients", 2, MINUTE).unwrap();
    let app = Router::new()
        .route("/", get(|| async { "in" }))
        .layer(RespondLayer::new(Http, limiter.layer()))
        .layer(RateLimitHeadersLayer::new(limiter));
    let address = serve(app).await;
    for (expected, left) in [(200, 1), (200, 0), (429, 0)] {
        let response = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(response.status(), expected);
        let headers = response.headers();
        assert_eq!(headers["ratelimit-policy"], r#""clients";q=2;w=60"#);
        let field = headers["ratelimit"].to_str().unwrap();
        let reset = field
            .strip_prefix(&format!(r#""clients";r={left};t="#))
            .unwrap();
        let reset: u64 = reset.parse().unwrap();
        assert!((1..=60).contains(&reset), "{field}");
        if expected == 429 {
            let after = headers["retry-after"].to_str().unwrap();
            assert!(after.parse::<u64>().unwrap() >= reset);
        }
    }
}

/// A server with two calls per client, of whom the proxies in `trusted` tell.
async fn per_client(trusted: &str) -> SocketAddr {
    let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>();
    let client = client.behind(TrustedProxies::parse(trusted).unwrap());
    let limiter = RateLimiter::builder("per client", 2, MINUTE);
    let limiter = limiter.keyed(client).build().unwrap();
    let app = Router::new()
        .route("/", get(|| async { "in" }))
        .layer(RespondLayer::new(Http, limiter.layer()))
        .layer(RateLimitHeadersLayer::new(limiter));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_quotas_of_their_own() {
    for (trusted, statuses) in [
        ("127.0.0.0/8", [200, 200, 429, 200, 200]),
        ("192.0.2.1", [200, 200, 429, 429, 429]),
    ] {
        let address = per_client(trusted).await;
        let client = reqwest::Client::new();
        let callers = [
            "203.0.113.1",
            "203.0.113.1",
            "203.0.113.1",
            "203.0.113.2",
            "2001:db8::1",
        ];
        for (caller, expected) in callers.into_iter().zip(statuses) {
            let request = client.get(format!("http://{address}/"));
            // What the client itself had put there is to the left.
            let request = request.header("x-forwarded-for", format!("9.9.9.9, {caller}"));
            assert_eq!(
                request.send().await.unwrap().status(),
                expected,
                "{trusted} {caller}"
            );
        }
    }
}

/// What a client sends before what its proxy appends does not make it another client.
#[tokio::test]
async fn a_client_cannot_hide_or_replace_what_a_trusted_proxy_appended() {
    let begun: [&[u8]; 5] = [
        b"1.1.1.1",
        b"\xff",
        b"for=\"",
        b"for=1.1.1.1;host=\"",
        b"\\\",;=",
    ];
    for forwarded in [false, true] {
        let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>();
        let client = client.behind(TrustedProxies::parse("127.0.0.0/8").unwrap());
        let (client, name, appended) = match forwarded {
            true => {
                let host = "proto=http;host=\"a;for=6.6.6.6;b\";for=203.0.113.7";
                (client.forwarded(), "forwarded", host)
            }
            false => (client, "x-forwarded-for", "203.0.113.7"),
        };
        let limiter = RateLimiter::builder("per client", 4, MINUTE);
        let limiter = limiter.keyed(client).build().unwrap();
        let app = Router::new().route("/", get(|| async { "in" }));
        let app = app.layer(RespondLayer::new(Http, limiter.layer()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        for (n, begun) in begun.into_iter().enumerate() {
            let value = [begun, &b", "[..], appended.as_bytes()].concat();
            let value = http::HeaderValue::from_bytes(&value).unwrap();
            let request = reqwest::Client::new().get(format!("http://{address}/"));
            let status = request.header(name, value).send().await.unwrap().status();
            let expected = if n < 4 { 200 } else { 429 };
            assert_eq!(status, expected, "{name}: {n}");
        }
    }
}

#[tokio::test]
async fn a_layer_that_waits_serves_http_as_well() {
    let limiter = RateLimiter::new("clients", 1, Duration::from_millis(50)).unwrap();
    let waiting = limiter.wait_up_to(MINUTE);
    let app = Router::new().route("/", get(|| async { "in" }));
    let app = app.layer(RespondLayer::new(Http, waiting.layer().http()));
    let address = serve(app).await;
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let done = done.clone();
        tokio::spawn(async move {
            assert_eq!(status(address).await, 200);
            done.fetch_add(1, Relaxed);
        });
    }
    eventually(|| done.load(Relaxed) == 3).await;
}
