//! What policies are doing, in Prometheus' text, as JSON, and as the health of a service.
//!
//! `cargo run --example metrics_and_health`

use axum::{Json, Router, http::StatusCode, routing::get};
use buttress::{CircuitBreaker, Error, circuit_breaker::State, registry::Registry};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{future::IntoFuture, io};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = CircuitBreaker::builder("database")
        .consecutive_failures(3)
        .build()?;
    let registry = Registry::new();
    registry.add(&database);

    let recorder = PrometheusBuilder::new().install_recorder()?;
    let (policies, breaker) = (registry.clone(), database.clone());
    let app = Router::new()
        .route("/policies", get(async move || Json(policies.snapshot())))
        .route(
            "/metrics",
            get(async move || {
                registry.publish();
                recorder.render()
            }),
        )
        .route(
            "/health",
            get(async move || match breaker.state() {
                State::Closed => (StatusCode::OK, "up"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "down: no database"),
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());

    println!(
        "{}",
        reqwest::get(format!("{url}/health")).await?.text().await?
    );
    for _ in 0..3 {
        let gone = async || Err::<(), _>(Error::Service(io::Error::other("gone")));
        let _ = database.run(gone).await;
    }
    println!(
        "{}",
        reqwest::get(format!("{url}/health")).await?.text().await?
    );
    let metrics = reqwest::get(format!("{url}/metrics")).await?.text().await?;
    for line in metrics.lines().filter(|line| line.contains("trips")) {
        println!("{line}");
    }
    Ok(())
}
