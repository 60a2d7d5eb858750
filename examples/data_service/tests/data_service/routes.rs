//! What it answers when all is well, and to those who ask wrongly.

use crate::service::{Servers, Service};
use serde_json::json;

#[tokio::test]
async fn items_are_read_through_the_cache_and_every_answer_says_how() {
    let servers = Servers::start();
    let service = Service::before(&servers, &[]);

    let first = service.get("/data/7").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json()["id"], 7);
    assert_eq!(first.json()["value"], "value 7");
    assert!(first.json()["updated_at"].as_str().unwrap().contains('T'));
    assert_eq!(first.cache(), "items; fwd=uri-miss; stored");
    let again = service.get("/data/7").await;
    assert!(again.cache().starts_with("items; hit; ttl="), "{again:?}");
    assert_eq!(
        (again.body.as_str(), again.header("age")),
        (first.body.as_str(), "0")
    );
    assert!(!again.is_marked_stale());

    let all = service.get("/data").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 100);
    assert_eq!(all["items"][99]["id"], 100);
    let three = service.get("/data?limit=3").await;
    assert_eq!(three.json()["items"].as_array().unwrap().len(), 3);
    assert_eq!(three.cache(), "items; fwd=uri-miss; stored");
    assert!(service.get("/data?limit=3").await.cache().contains("hit"));
    let most = service.get("/data?limit=1000").await.json();
    assert_eq!(most["items"].as_array().unwrap().len(), 1000);
    assert_eq!(
        service.health().await,
        (200, ["up", "up", "up"].map(Into::into))
    );
}

#[tokio::test]
async fn metrics_say_what_every_policy_has_done_and_also_when_postgres_is_away() {
    let mut servers = Servers::start();
    let service = Service::before(&servers, &[("MAX_CONCURRENT", "1")]);
    for _ in 0..3 {
        service.get("/data/7").await;
    }
    for is_up in [true, false] {
        if !is_up {
            servers.postgres.kill().unwrap();
            assert_eq!(service.get("/data/8").await.status, 503);
        }
        let answer = service.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{answer:?}");
        let has = |what: &str| answer.body.lines().any(|line| line.starts_with(what));
        for line in [
            "# TYPE buttress_cache_hits_total counter",
            r#"buttress_cache_hits_total{policy="items",served="fresh"} 2"#,
            r#"buttress_load_shed_limit{policy="requests"} 1"#,
            r#"buttress_circuit_breaker_state{policy="postgres","#,
            r#"buttress_timeout_timed_out_total{policy="postgres"} 0"#,
        ] {
            assert!(has(line), "no {line}: {}", answer.body);
        }
        // The limit is on what asks Postgres.
        let admitted = if is_up { 3 } else { 4 };
        let admitted =
            format!(r#"buttress_load_shed_admitted_total{{policy="requests"}} {admitted}"#);
        assert!(has(&admitted), "no {admitted}: {}", answer.body);
    }
}

#[tokio::test]
async fn who_asks_wrongly_is_told_so_in_json() {
    let servers = Servers::start();
    let service = Service::before(&servers, &[]);
    for (path, status) in [
        ("/data/1001", 404),
        ("/data/0", 404),
        ("/data/-7", 404),
        ("/data/99999999999999999999", 404),
        ("/data/x", 400),
        ("/data/7.5", 400),
        ("/data/-", 400),
        ("/data/7%20", 400),
        ("/data?limit=0", 400),
        ("/data?limit=-1", 400),
        ("/data?limit=1001", 400),
        ("/data?limit=", 400),
        ("/data?limit=x", 400),
    ] {
        let answer = service.get(path).await;
        assert_eq!(answer.error().0, status, "{path}: {answer:?}");
        assert!(answer.cache().starts_with("items; "), "{path}: {answer:?}");
    }
    assert_eq!(service.get("/nowhere").await.error().0, 404);
    let url = format!("{}/data/7", service.url);
    let delete = crate::service::read(service.client.delete(url)).await;
    assert_eq!(delete.error().0, 405);
    // That there is none is cached as well.
    assert!(service.get("/data/1001").await.cache().contains("hit"));

    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"name": "a"}"#,
        r#"{"value": 1}"#,
        r#"{"name": "", "value": 1}"#,
        r#"{"name": 7, "value": 1}"#,
        r#"{"name": "a", "value": 1, "id": 7}"#,
        r#"{"name": "a\u0000", "value": 1}"#,
        r#"{"name": "a", "value": "\u0000"}"#,
    ] {
        assert_eq!(service.post(body).await.error().0, 400, "{body}");
    }
    let long = json!({"name": "a".repeat(201), "value": 1}).to_string();
    assert_eq!(service.post(&long).await.error().0, 400);
    assert_eq!(servers.count("items").await, 1000);
    assert_eq!(service.health().await.0, 200);
}
