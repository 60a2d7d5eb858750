//! A tonic server and a tonic client behind layers: rejections are statuses on both sides.
//!
//! `cargo run --example tonic_layers`

use buttress::grpc::{self, Grpc};
use buttress::http::{DeadlineHeaderLayer, RespondLayer};
use buttress::{AsRejected, CircuitBreaker, RateLimiter, Timeout};
use std::{error::Error, time::Duration};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The server: three calls a minute.
    let limiter = RateLimiter::new("health", 3, Duration::from_secs(60))?;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .layer(RespondLayer::new(Grpc, limiter.layer().grpc()))
        .add_service(health);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    // The client.
    let breaker = CircuitBreaker::new("health");
    let timeout = Timeout::new("health", Duration::from_secs(1));
    // A call's own `set_timeout`, if that is less.
    let deadline = DeadlineHeaderLayer::at_most("health", Duration::from_secs(3));
    let channel = ServiceBuilder::new()
        .layer(deadline)
        .layer(breaker.layer().grpc())
        .layer(timeout.layer().grpc())
        .map_err(grpc::status)
        .service(Channel::from_shared(url)?.connect_lazy());
    let mut client = HealthClient::new(channel);

    for n in 1..=5 {
        if n == 5 {
            breaker.force_open();
        }
        match client.check(HealthCheckRequest::default()).await {
            Ok(answer) => println!("{:?}", answer.into_inner().status()),
            Err(status) => match status.as_rejected() {
                Some(rejected) => println!("not called: {rejected}"),
                None => println!("the server says: {:?}, {}", status.code(), status.message()),
            },
        }
    }
    Ok(())
}
