//! Postgres dies, hangs, and comes back.

use crate::service::{Answer, Servers, Service, eventually, until};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Answers that are fresh for a moment, and stale for long.
const SHORT: [(&str, &str); 2] = [
    ("CACHE_TTL_SECONDS", "0.1"),
    ("POSTGRES_TIMEOUT_SECONDS", "0.5"),
];

fn assert_unavailable(answer: &Answer) {
    let (status, why) = answer.error();
    assert!(status == 503 && why.contains("database"), "{answer:?}");
    let says = ["items; fwd=uri-miss", "items; fwd=method"];
    assert!(says.contains(&answer.cache()), "{answer:?}");
}

/// What was cached is answered, fresh and then stale and marked; what was not is 503 at once.
async fn answers_from_what_it_knows(service: &Service, known: &str) {
    let mut stale = 0;
    eventually("it is stale, and answered nevertheless", async || {
        let answer = service.get("/data/7").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, known));
        assert!(answer.took < 400 * MS, "{answer:?}");
        // What it says in the two places is the same.
        let says = answer.cache();
        let is_stale = says.contains("detail=swr") || says.contains("detail=sie");
        assert_eq!(answer.is_marked_stale(), is_stale, "{answer:?}");
        stale += u32::from(says.contains("detail=sie"));
        stale >= 3
    })
    .await;
}

async fn is_back(service: &Service) {
    let mut id = 500;
    let took = until("what nobody has asked for is answered", async || {
        id += 1;
        service.get(&format!("/data/{id}")).await.status == 200
    })
    .await;
    assert!(took < 2000 * MS, "{took:?}");
    assert_eq!(
        service.health().await,
        (200, ["up", "up", "up"].map(Into::into))
    );
}

#[tokio::test]
async fn with_postgres_killed_what_is_cached_is_answered_and_the_rest_is_503_at_once() {
    let mut servers = Servers::start();
    let service = Service::before(&servers, &SHORT);
    let known = service.get("/data/7").await.body;
    let list = service.get("/data?limit=2").await.body;
    servers.postgres.kill().unwrap();
    let answer = service.get("/data/400").await;
    assert_unavailable(&answer);
    assert!(answer.took < 200 * MS, "{answer:?}");
    answers_from_what_it_knows(&service, &known).await;
    let stale = service.get("/data?limit=2").await;
    assert_eq!((stale.status.as_u16(), stale.body), (200, list));
    assert!(stale.headers.contains_key("x-stale"));
    let write = service.post(r#"{"name": "a", "value": 1}"#).await;
    assert_unavailable(&write);
    assert_eq!(
        service.health().await,
        (200, ["degraded", "down", "up"].map(Into::into))
    );

    servers.postgres.restart().unwrap();
    is_back(&service).await;
    let took = until("what was stale is as new as it was before", async || {
        let answer = service.get("/data/7").await;
        answer.header("age") == "0" && !answer.cache().contains("detail=sie")
    })
    .await;
    assert!(took < 2000 * MS, "{took:?}");
}

#[tokio::test]
async fn with_postgres_hanging_its_breaker_opens_and_nobody_waits_any_more() {
    let servers = Servers::start();
    let service = Service::before(&servers, &SHORT);
    let known = service.get("/data/7").await.body;
    servers.postgres.suspend().unwrap();
    let mut id = 100;
    eventually("its breaker is open", async || {
        id += 1;
        let answer = service.get(&format!("/data/{id}")).await;
        assert_unavailable(&answer);
        // A timeout, and what the machine takes.
        assert!(answer.took < 1200 * MS, "{answer:?}");
        answer.took < 100 * MS
    })
    .await;
    answers_from_what_it_knows(&service, &known).await;
    servers.postgres.resume().unwrap();
    is_back(&service).await;
}

#[tokio::test]
async fn when_the_pool_is_exhausted_nobody_waits_longer_than_the_timeout() {
    let servers = Servers::start();
    let service = Service::before(&servers, &SHORT);
    let known = service.get("/data/7").await.body;
    let lock = servers
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await;
    let asked = (100..150).map(|id| {
        let get = service.client.get(format!("{}/data/{id}", service.url));
        tokio::spawn(crate::service::read(get))
    });
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert_unavailable(&answer);
        assert!(answer.took < 1500 * MS, "{answer:?}");
    }
    answers_from_what_it_knows(&service, &known).await;
    lock.batch_execute("COMMIT").await.unwrap();
    is_back(&service).await;
}

#[tokio::test]
async fn with_both_gone_it_is_down_and_says_so() {
    let mut servers = Servers::start();
    let service = Service::before(&servers, &SHORT);
    servers.postgres.kill().unwrap();
    servers.redis.kill().unwrap();
    let answer = service.get("/data/400").await;
    assert_unavailable(&answer);
    assert!(answer.took < 300 * MS, "{answer:?}");
    assert_eq!(
        service.health().await,
        (503, ["down", "down", "down"].map(Into::into))
    );
    servers.redis.restart().unwrap();
    servers.postgres.restart().unwrap();
    is_back(&service).await;
}

#[tokio::test]
async fn it_starts_without_postgres_and_finds_it_later() {
    let mut servers = Servers::start();
    servers.postgres.kill().unwrap();
    let service = Service::before(&servers, &[]);
    assert_unavailable(&service.get("/data/7").await);
    servers.postgres.restart().unwrap();
    eventually("there are items", async || {
        service.get("/data/7").await.status == 200
    })
    .await;
}
