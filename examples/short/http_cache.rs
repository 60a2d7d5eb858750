//! An HTTP cache before an axum `Router`: `Cache-Control` is kept to, a write invalidates.
//!
//! `cargo run --example http_cache`

use axum::Router;
use axum::routing::{get, put};
use buttress::cache::{Cache, MemoryStore};
use buttress::http::{Http, RespondLayer, StoredResponse};
use http::header::CACHE_CONTROL;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{error::Error, future::IntoFuture};
use tokio::net::TcpListener;

static READS: AtomicU32 = AtomicU32::new(0);

async fn item() -> String {
    format!("version {}", READS.fetch_add(1, Relaxed) + 1)
}

/// For whoever asked, and for nobody else.
async fn token() -> ([(http::HeaderName, &'static str); 1], String) {
    ([(CACHE_CONTROL, "no-store")], item().await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // 64 MiB of responses. Fresh for 60 s where a response does not say for how long.
    let store = MemoryStore::weighed(64 << 20, StoredResponse::weight)?;
    let cache = Cache::builder("pages").store(store).build()?;
    let app = Router::new()
        .route("/items/7", get(item))
        .route("/items/7", put(async || "changed"))
        .route("/token", get(token))
        .layer(RespondLayer::new(Http, cache.http_layer()));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = reqwest::Client::builder().no_proxy().build()?;
    let read = async |path: &str| -> Result<(), Box<dyn Error>> {
        let response = client.get(format!("{url}{path}")).send().await?;
        let status = response.headers()["cache-status"].to_str()?.to_owned();
        let status = status.split("; ttl").next().unwrap_or_default();
        println!("{}: {status}", response.text().await?);
        Ok(())
    };
    read("/items/7").await?;
    read("/items/7").await?;
    client.put(format!("{url}/items/7")).send().await?;
    read("/items/7").await?;
    read("/token").await?;
    read("/token").await?;
    Ok(())
}
