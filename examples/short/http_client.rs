//! A reqwest client behind a circuit breaker, a retry and a timeout.
//!
//! `cargo run --example http_client`

use axum::{Router, http::StatusCode, routing::get};
use buttress::{CircuitBreaker, Error, Retry, Timeout};
use http::{Request, Response};
use reqwest::{Body, Client};
use std::{future::IntoFuture, time::Duration};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = CircuitBreaker::builder("orders")
        .consecutive_failures(3)
        .build()?;
    let retry = Retry::new("orders");
    let timeout = Timeout::new("orders", Duration::from_secs(1));

    let client = Client::builder().no_proxy().build()?;
    let mut orders = ServiceBuilder::new()
        .layer(breaker.layer().http())
        .layer(retry.layer().http().map_body(Body::wrap))
        .layer(timeout.layer())
        .map_err(Error::Service)
        .map_response(Response::<Body>::from)
        .service_fn(move |request: Request<Body>| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await }
        });

    let url = serve().await?;
    for path in ["well", "ill", "ill", "ill", "well"] {
        let request = Request::get(format!("{url}/{path}")).body(Body::default())?;
        match orders.ready().await?.call(request).await {
            Ok(response) => println!("{path}: {}", response.status()),
            Err(Error::Rejected(rejected)) => println!("{path}: not called, {rejected}"),
            Err(Error::Service(error)) => println!("{path}: no answer, {error}"),
        }
    }
    println!("{} retries", retry.snapshot().retries_total);
    Ok(())
}

/// A server that is well on one path and ill on the other.
async fn serve() -> std::io::Result<String> {
    let app = Router::new()
        .route("/well", get(async || "fine"))
        .route("/ill", get(async || StatusCode::INTERNAL_SERVER_ERROR));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
