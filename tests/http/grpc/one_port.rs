//! axum routes and a tonic service on one port, whose rejections everybody understands.

use super::health::{Obedient, asking, channel};
use crate::{
    server::serve,
    tally::{FAILURE, IGNORED, SUCCESS, Tally, overloaded},
};
use axum::{Router, http::StatusCode, routing::get};
use buttress::{GuardLayer, Kind, grpc::Auto, http::RespondLayer};
use std::net::SocketAddr;
use tonic::{Code, service::Routes};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};

async fn one_port(tally: &Tally) -> SocketAddr {
    let app: Router = Routes::new(HealthServer::new(Obedient))
        .into_axum_router()
        .route("/orders", get(async || "[]"))
        .route("/empty", get(async || StatusCode::NO_CONTENT))
        .route("/wrong", get(async || StatusCode::BAD_REQUEST))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .layer(RespondLayer::new(
            Auto,
            GuardLayer::new(tally.clone()).auto(),
        ));
    serve(app).await
}

async fn web(address: SocketAddr, content_type: &str) -> reqwest::Response {
    let url = format!("http://{address}/grpc.health.v1.Health/Check");
    let request = reqwest::Client::new().post(url);
    let request = request.header("content-type", content_type);
    request.body(vec![0; 5]).send().await.unwrap()
}

#[tokio::test]
async fn each_client_is_refused_in_its_own_protocol() {
    let tally = Tally::default();
    tally.refuse(Kind::CircuitOpen);
    let address = one_port(&tally).await;

    let answer = reqwest::get(format!("http://{address}/orders"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["retry-after"], "2");
    assert!(answer.text().await.unwrap().contains("tally: circuit open"));

    let mut client = HealthClient::new(channel(address));
    let status = client.check(asking("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.metadata().get("grpc-retry-pushback-ms").unwrap(),
        "1500"
    );
    let status = client.watch(asking("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    for (content_type, answered) in [
        ("application/grpc-web", "application/grpc-web+proto"),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        (
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
        ),
    ] {
        let answer = web(address, content_type).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], answered);
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert!(answer.headers().contains_key("grpc-message"));
        assert_eq!(answer.bytes().await.unwrap(), "");
    }
}

#[tokio::test]
async fn each_client_is_served_and_its_answers_judged() {
    let tally = Tally::default();
    let address = one_port(&tally).await;
    let mut expected = Vec::new();
    for (path, end) in [
        ("orders", SUCCESS),
        ("empty", SUCCESS),
        ("wrong", IGNORED),
        ("broken", FAILURE),
        ("nothing", IGNORED),
    ] {
        let answer = reqwest::get(format!("http://{address}/{path}"));
        drop(answer.await.unwrap().bytes().await);
        expected.push(end);
        assert_eq!(tally.ended(expected.len()).await, expected);
    }
    let mut client = HealthClient::new(channel(address));
    for (asked, end) in [
        ("", SUCCESS),
        ("internal", FAILURE),
        ("exhausted", overloaded(Some(70))),
    ] {
        let _ = client.check(asking(asked)).await;
        expected.push(end);
        assert_eq!(tally.ended(expected.len()).await, expected);
    }
}
