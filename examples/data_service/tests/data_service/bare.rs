//! RESILIENCE=off.

use crate::service::{Servers, Service};

#[tokio::test]
async fn without_resilience_it_answers_the_same_and_500_when_postgres_is_away() {
    let mut servers = Servers::start();
    let database = servers.postgres.url();
    let settings = [("DATABASE_URL", database.as_str()), ("RESILIENCE", "off")];
    let service = Service::start(&settings);
    assert_eq!(service.get("/data/7").await.json()["name"], "item 7");
    assert_eq!(
        service.get("/data?limit=2").await.json()["items"][1]["id"],
        2
    );
    assert_eq!(service.get("/data/1001").await.status, 404);
    let made = service.post(r#"{"name": "a", "value": 1}"#).await;
    assert_eq!(
        (made.status.as_u16(), made.json()["id"].as_i64()),
        (201, Some(1001))
    );
    assert_eq!(service.get("/health").await.status, 200);
    assert_eq!(service.get("/metrics").await.error().0, 404);

    servers.postgres.kill().unwrap();
    for path in ["/data/7", "/data", "/health"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(
            answer.body.starts_with("Internal Server Error"),
            "{answer:?}"
        );
    }
    assert_eq!(
        service.post(r#"{"name": "a", "value": 1}"#).await.status,
        500
    );
}
