//! Redis dies, hangs, and comes back.

use crate::service::{Servers, Service, eventually, until};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn with_redis_killed_postgres_answers_and_redis_is_used_again_when_it_is_back() {
    let mut servers = Servers::start();
    let service = Service::before(&servers, &[]);
    service.get("/data/7").await;
    servers.redis.kill().unwrap();
    for path in ["/data/7", "/data/8", "/data?limit=3"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.took < 500 * MS, "{answer:?}");
        assert!(answer.cache().contains("store-unavailable"), "{answer:?}");
    }
    assert_eq!(service.get("/data/1001").await.status, 404);
    let written = service.post(r#"{"name": "a", "value": 1}"#).await;
    assert_eq!(written.status, 201);
    assert_eq!(service.get("/data/1001").await.status, 200);
    assert_eq!(
        service.health().await,
        (200, ["degraded", "up", "down"].map(Into::into))
    );

    servers.redis.restart().unwrap();
    let took = until("Redis is used again", async || {
        service.get("/data/7").await.cache().contains("hit")
    })
    .await;
    assert!(took < 2000 * MS, "{took:?}");
    assert_eq!(
        service.health().await,
        (200, ["up", "up", "up"].map(Into::into))
    );
}

#[tokio::test]
async fn a_redis_that_hangs_costs_its_timeout_and_once_its_breaker_is_open_nothing() {
    let servers = Servers::start();
    let service = Service::before(&servers, &[("REDIS_TIMEOUT_SECONDS", "0.2")]);
    service.get("/data/7").await;
    servers.redis.suspend().unwrap();
    let mut slow = 0;
    // One after the other: each that waits for Redis waits for its timeout, and no longer.
    eventually("Redis is not waited for any more", async || {
        let answer = service.get("/data/7").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.took < 700 * MS, "{answer:?}");
        slow += u32::from(answer.took >= 200 * MS);
        answer.took < 100 * MS
    })
    .await;
    assert!((1..=10).contains(&slow), "{slow}");
    let health = service.health().await;
    assert_eq!(health, (200, ["degraded", "up", "down"].map(Into::into)));

    servers.redis.resume().unwrap();
    let took = until("Redis is used again", async || {
        service.get("/data/7").await.cache().contains("hit")
    })
    .await;
    assert!(took < 2000 * MS, "{took:?}");
}

#[tokio::test]
async fn it_starts_without_redis_and_finds_it_later() {
    let mut servers = Servers::start();
    servers.redis.kill().unwrap();
    let service = Service::before(&servers, &[]);
    assert_eq!(service.get("/data/7").await.status, 200);
    servers.redis.restart().unwrap();
    eventually("Redis is used", async || {
        service.get("/data/7").await.cache().contains("hit")
    })
    .await;
}
