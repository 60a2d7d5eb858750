//! A quota for each client of a server that stands behind a proxy.
//!
//! `cargo run --example per_client_behind_proxy`

use axum::{Router, extract::ConnectInfo, routing::get};
use buttress::RateLimiter;
use buttress::http::{ClientAddr, Http, RateLimitHeadersLayer, RespondLayer, TrustedProxies};
use std::{error::Error, future::IntoFuture, net::SocketAddr, time::Duration};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The proxies, and not the networks of clients: whatever is listed is believed.
    let proxies = TrustedProxies::parse("127.0.0.0/8, 10.0.0.0/8")?;
    let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>().behind(proxies);
    let limiter = RateLimiter::builder("per client", 2, Duration::from_secs(60))
        .keyed(client)
        .build()?;
    let app = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(Http, limiter.layer()))
        .layer(RateLimitHeadersLayer::new(limiter));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());

    // We are the proxy: it appends who called it to what the client had sent.
    let proxy = reqwest::Client::builder().no_proxy().build()?;
    let (one, other) = ("203.0.113.1", "203.0.113.2");
    for (sent, client) in [("", one), ("", one), ("9.9.9.9, ", one), ("", other)] {
        let request = proxy.get(&url);
        let request = request.header("x-forwarded-for", format!("{sent}{client}"));
        let status = request.send().await?.status();
        println!("{client}: {status}");
    }
    Ok(())
}
