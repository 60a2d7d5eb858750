//! Tonic servers that axum nests: each of them sees a path without its prefix.

use super::health::{Obedient, asking};
use axum::Router;
use buttress::{
    RateLimiter,
    grpc::Grpc,
    http::{PathKey, RespondLayer},
};
use std::time::Duration;
use tonic::{Code, service::Routes};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};

#[tokio::test]
async fn methods_of_nested_servers_have_limits_of_their_own() {
    let limiter = RateLimiter::builder("per method", 1, Duration::from_secs(3600));
    let limiter = limiter.keyed(PathKey).build().unwrap();
    let server = || {
        let server = Routes::new(HealthServer::new(Obedient)).into_axum_router();
        server.layer(RespondLayer::new(Grpc, limiter.layer().grpc()))
    };
    let app = Router::new().nest("/a", server()).nest("/b", server());
    let check = async |prefix: &str| {
        let origin = format!("http://health{prefix}").parse().unwrap();
        let mut client = HealthClient::with_origin(app.clone(), origin);
        let answer = client.check(asking("")).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(check("/a").await, Code::Ok);
    assert_eq!(check("/b").await, Code::Ok);
    assert_eq!(check("/a").await, Code::ResourceExhausted);
    assert_eq!(check("/b").await, Code::ResourceExhausted);
}
