//! Four layers on an axum `Router`: no `HandleErrorLayer`, no boxed errors.
//!
//! `cargo run --example axum_layers` calls itself and ends; with an address behind
//! it (`-- 127.0.0.1:3000`) it serves there.

use axum::{Router, http::StatusCode, routing::get};
use buttress::http::{Http, RespondLayer};
use buttress::{CircuitBreaker, RateLimiter, Retry, Timeout};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{env, error::Error, future::IntoFuture, time::Duration};
use tokio::net::TcpListener;

/// Fails every other time it is called.
async fn orders() -> Result<&'static str, StatusCode> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    match CALLS.fetch_add(1, Relaxed) % 2 {
        0 => Err(StatusCode::SERVICE_UNAVAILABLE),
        _ => Ok("[]"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = RateLimiter::new("orders", 3, Duration::from_secs(60))?;
    let breaker = CircuitBreaker::new("orders");
    let retry = Retry::new("orders");
    let timeout = Timeout::new("orders", Duration::from_secs(1));

    let stack = (
        limiter.layer(),
        breaker.layer().http(),
        retry.layer().http(),
        timeout.layer(),
    );
    let app = Router::new().route("/orders", get(orders));
    let app = app.layer(RespondLayer::new(Http, stack));

    let given = env::args().nth(1);
    let listener = TcpListener::bind(given.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    println!("serving {url}");
    let server = tokio::spawn(axum::serve(listener, app).into_future());
    if given.is_some() {
        return Ok(server.await??);
    }

    // The handler fails every first attempt, and the quota is three.
    let client = reqwest::Client::builder().no_proxy().build()?;
    for _ in 0..4 {
        let response = client.get(&url).send().await?;
        let after = response.headers().get("retry-after");
        println!("{}, retry after {after:?}", response.status());
    }
    println!("{} retries", retry.snapshot().retries_total);
    Ok(())
}
