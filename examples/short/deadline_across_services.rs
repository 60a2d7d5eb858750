//! A deadline that travels: the first service gives 300 ms, the second knows what is left of them.
//!
//! `cargo run --example deadline_across_services`

use axum::{Router, routing::get};
use buttress::http::{DeadlineHeaderClientLayer, DeadlineHeaderLayer, Http, RespondLayer};
use buttress::{Error, timeout::Deadline};
use std::{future::IntoFuture, time::Duration};
use tokio::{net::TcpListener, time::sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Request = http::Request<reqwest::Body>;

async fn serve(app: Router) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}

/// The second service, which says how long its caller will wait.
async fn stock() -> String {
    let left = Deadline::current().map(Deadline::remaining);
    let known = left.is_some_and(|left| left <= Duration::from_millis(250));
    format!("less than 250 ms left: {known}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at_most = |name, limit| {
        let deadline = DeadlineHeaderLayer::at_most(name, Duration::from_millis(limit));
        RespondLayer::new(Http, deadline)
    };
    let app = Router::new().route("/", get(stock));
    let url = serve(app.layer(at_most("stock", 10_000))).await?;

    // The first one spends 50 ms, and asks the second with what is left.
    let orders = async move || {
        sleep(Duration::from_millis(50)).await;
        let client = reqwest::Client::new();
        let call = move |request: Request| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await }
        };
        let stock = ServiceBuilder::new()
            .layer(DeadlineHeaderClientLayer::new("stock"))
            .map_err(Error::Service)
            .service(service_fn(call));
        let request = http::Request::get(&url).body(reqwest::Body::default());
        match stock.oneshot(request.unwrap_or_default()).await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    };
    let app = Router::new().route("/", get(orders));
    let url = serve(app.layer(at_most("orders", 300))).await?;
    println!("{}", reqwest::get(url).await?.text().await?);
    Ok(())
}
