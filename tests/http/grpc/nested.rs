//! Tonic servers that axum nests: each of them sees a path without its prefix.

use super::health::{Obedient, asking};
use axum::Router;
use buttress::{
    RateLimiter,
    grpc::Grpc,
    http::{ClientAddr, PathKey, PeerAddr, RespondLayer, TrustedProxies},
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

#[tokio::test]
async fn clients_of_a_tonic_server_are_told_apart_by_what_the_proxy_appended() {
    let client = ClientAddr::new().behind(TrustedProxies::parse("10.0.0.0/8").unwrap());
    let limiter = RateLimiter::builder("per client", 1, Duration::from_secs(3600));
    let limiter = limiter.keyed(client.forwarded()).build().unwrap();
    let server = Routes::new(HealthServer::new(Obedient)).into_axum_router();
    let server = server
        .layer(RespondLayer::new(Grpc, limiter.layer().grpc()))
        .layer(axum::Extension(PeerAddr(([10, 0, 0, 1], 4711).into())));
    let check = async |forwarded: &'static str| {
        let mut request = tonic::Request::new(asking(""));
        let metadata = request.metadata_mut();
        metadata.insert("forwarded", forwarded.parse().unwrap());
        let answer = HealthClient::new(server.clone()).check(request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(check("for=1.1.1.1, for=203.0.113.7").await, Code::Ok);
    for same in [
        "for=\"1.1.1.1, for=203.0.113.7",
        "for=1.1.1.1, host=\"a;for=6.6.6.6;b\";for=203.0.113.7",
    ] {
        assert_eq!(check(same).await, Code::ResourceExhausted, "{same}");
    }
    assert_eq!(check("for=203.0.113.7, for=203.0.113.8").await, Code::Ok);
}
