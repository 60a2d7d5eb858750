//! What each path answers.

use crate::{
    outside::{Act, Outside},
    process::{Gateway, problem, read},
};
use serde_json::json;

#[tokio::test]
async fn health_is_exactly_what_the_write_up_says() {
    let gateway = Gateway::start(&[]);
    let answer = read(gateway.get("/health")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, r#"{"status":"ok"}"#);
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn metrics_begin_with_the_four_keys_of_the_write_up() {
    let gateway = Gateway::start(&[]);
    gateway.data().await;
    let answer = read(gateway.get("/metrics")).await;
    let start = r#"{"circuit_breaker_state":"CLOSED","total_retries":0,"rate_limit_allowed":1,"rate_limit_blocked":0"#;
    assert!(answer.body.starts_with(start), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn metrics_are_prometheus_text_for_scrapers_and_json_for_everyone_else() {
    let gateway = Gateway::start(&[]);
    gateway.data().await;
    for accept in [
        "text/plain",
        "text/plain; version=0.0.4",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1",
    ] {
        let answer = read(gateway.get("/metrics").header("accept", accept)).await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type");
        assert!(kind.starts_with("text/plain"), "{accept}: {kind}");
        assert!(answer.body.contains("# TYPE "), "{answer:?}");
        let says = |line: &str| answer.body.lines().any(|l| l == line);
        assert!(says("rate_limit_allowed 1"), "{answer:?}");
        assert!(
            says(r#"circuit_breaker_state{state="CLOSED"} 1"#),
            "{answer:?}"
        );
        assert!(
            says(r#"circuit_breaker_state{state="OPEN"} 0"#),
            "{answer:?}"
        );
    }
    for accept in [
        "*/*",
        "application/json, text/plain, */*",
        "text/html,*/*;q=0.8",
    ] {
        let answer = read(gateway.get("/metrics").header("accept", accept)).await;
        assert_eq!(
            answer.header("content-type"),
            "application/json",
            "{accept}"
        );
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let gateway = Gateway::start(&[]);
    let answer = read(gateway.get("/api/v2/data")).await;
    problem(&answer, 404);
    let url = format!("{}/api/v1/data", gateway.url);
    let answer = read(gateway.client.post(url)).await;
    problem(&answer, 405);
    assert!(answer.header("allow").contains("GET"));
}

#[tokio::test]
async fn a_success_has_the_status_body_and_content_type_of_the_backend() {
    let backend = Outside::start(|_| {
        Act::answer(
            "201 Created",
            "content-type: text/csv\r\nx-row: 7\r\n",
            "a,b\n",
        )
    })
    .await;
    let gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
    let answer = gateway.data().await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (201, "a,b\n")
    );
    assert_eq!(answer.header("content-type"), "text/csv");
    assert_eq!(answer.header("x-row"), "7");
    // It spoke of its own connection, not of ours.
    assert_eq!(answer.header("connection"), "");
}

#[tokio::test]
async fn other_answers_pass_through_and_are_not_retried() {
    for status in [
        "404 Not Found",
        "429 Too Many Requests",
        "500 Oh No",
        "304 Not Modified",
    ] {
        let body = if status.starts_with('3') { "" } else { "said" };
        let backend = Outside::start(move |_| Act::answer(status, "", body)).await;
        let gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
        let answer = gateway.data().await;
        assert_eq!(answer.status.as_str(), &status[..3]);
        assert_eq!(answer.body, body);
        assert_eq!(backend.hits(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_backend_elsewhere_is_asked_below_its_own_path() {
    let gateway = Gateway::start(&[]);
    let base = format!("{}/nowhere/", gateway.backend.as_deref().unwrap());
    let other = Gateway::start(&[("BACKEND_URL", &base)]);
    assert!(other.backend.is_none());
    assert_eq!(other.data().await.status, 404);
}

#[tokio::test]
async fn the_backend_changes_its_behaviour_live_and_says_what_it_does_not_accept() {
    let gateway = Gateway::start(&[("MAX_RETRIES", "0")]);
    assert_eq!(gateway.data().await.status, 200);
    let answer = gateway
        .behave(r#"{"failure_rate":1,"slow_rate":0.25,"delay_seconds":0.5}"#)
        .await;
    assert_eq!(answer.status, 200);
    let now = json!({"failure_rate": 1.0, "slow_rate": 0.25, "delay_seconds": 0.5});
    assert_eq!(answer.json(), now);
    problem(&gateway.data().await, 503);
    for (change, status) in [
        (r#"{"failure_rate":1.5}"#, 422),
        (r#"{"slow_rate":-1}"#, 422),
        (r#"{"delay_seconds":"long"}"#, 422),
        (r#"{"failure-rate":1}"#, 422),
        ("failure_rate=1", 400),
    ] {
        let answer = gateway.behave(change).await;
        assert!(!problem(&answer, status).is_empty(), "{change}");
    }
    let url = format!("{}/behaviour", gateway.backend.as_deref().unwrap());
    assert_eq!(read(gateway.client.get(url)).await.json(), now);
    // What is not named stays; the variables' names are understood.
    let answer = gateway.behave(r#"{"FLAKY_FAILURE_RATE":0}"#).await;
    assert_eq!(answer.json()["slow_rate"], 0.25);
    assert_eq!(answer.json()["failure_rate"], 0.0);
}
