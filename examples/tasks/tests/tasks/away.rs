//! Postgres or Redis away.

use crate::{
    process::{Service, empty, eventually, number},
    servers::{Postgres, Redis},
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

/// The machine may be busy with something else now and then.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn without_postgres_it_says_so_in_milliseconds_and_is_back_when_postgres_is() {
    let mut postgres = Postgres::start().unwrap();
    let redis = Redis::start().unwrap();
    let api = Service::over(&postgres.url(), &redis.url(), &[]);
    api.add("/tasks", json!({"title": "t"})).await;
    postgres.kill().unwrap();
    let mut times = Vec::new();
    for n in 0..20 {
        let start = Instant::now();
        let (answer, what) = match n % 4 {
            0 => (api.get("/tasks/1").await, "a task"),
            1 => (
                api.post("/tasks", json!({"title": "u"})).await,
                "a new task",
            ),
            2 => (api.get("/users").await, "users"),
            _ => (api.delete("/categories/1").await, "no category"),
        };
        times.push(start.elapsed());
        assert!(
            !answer.header("retry-after").is_empty(),
            "{what}: {answer:?}"
        );
        answer.problem(503, &[]);
    }
    assert!(median(&mut times) < Duration::from_millis(20), "{times:?}");
    // What is wrong with a request is said without Postgres.
    api.get("/tasks?sort=x").await.problem(400, &["sort"]);
    let health = api.get("/health").await.with(200);
    assert_eq!(
        health,
        json!({"status": "degraded", "postgres": "down", "redis": "up"})
    );

    postgres.restart().unwrap();
    let start = Instant::now();
    eventually("Postgres is used again", async || {
        api.get("/tasks/1").await.status == 200
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(api.get("/health").await.with(200)["status"], "up");
}

#[tokio::test]
async fn a_postgres_that_hangs_is_given_up_in_time_and_then_not_asked() {
    let postgres = Postgres::start().unwrap();
    let redis = Redis::start().unwrap();
    let settings = [("POSTGRES_TIMEOUT_SECONDS", "0.3")];
    let api = Service::over(&postgres.url(), &redis.url(), &settings);
    api.get("/tasks/1").await.problem(404, &[]);
    postgres.suspend().unwrap();
    let start = Instant::now();
    eventually("the breaker is open", async || {
        let start = Instant::now();
        api.get("/tasks/1").await.problem(503, &[]);
        start.elapsed() < Duration::from_millis(100)
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(4));
    postgres.resume().unwrap();
    eventually("Postgres is used again", async || {
        api.get("/tasks/1").await.status == 404
    })
    .await;
}

#[tokio::test]
async fn it_starts_without_either_and_works_when_they_are_there() {
    let mut postgres = Postgres::start().unwrap();
    let mut redis = Redis::start().unwrap();
    postgres.kill().unwrap();
    redis.kill().unwrap();
    let api = Service::over(&postgres.url(), &redis.url(), &[]);
    api.get("/tasks").await.problem(503, &[]);
    let health = api.get("/health").await.with(503);
    assert_eq!(
        health,
        json!({"status": "down", "postgres": "down", "redis": "down"})
    );
    postgres.restart().unwrap();
    eventually("the schema is there", async || {
        api.get("/tasks").await.status == 200
    })
    .await;
    assert_eq!(api.get("/health").await.with(200)["redis"], "down");
    redis.restart().unwrap();
    eventually("Redis is seen", async || {
        api.get("/health").await.with(200)["status"] == "up"
    })
    .await;
}

#[tokio::test]
async fn without_postgres_lists_that_are_cached_are_answered_and_marked_when_stale() {
    let mut postgres = Postgres::start().unwrap();
    let redis = Redis::start().unwrap();
    let settings = [("CACHE_TTL_SECONDS", "1")];
    let api = Service::over(&postgres.url(), &redis.url(), &settings);
    api.add("/tasks", json!({"title": "t"})).await;
    let list = api.get("/tasks").await.with(200);
    postgres.kill().unwrap();
    eventually("the list is stale", async || {
        let answer = api.get("/tasks").await;
        let status = answer.header("cache-status").to_owned();
        let stale = status.contains("fwd=stale") && status.contains("detail=sie");
        assert!(stale || status.contains("hit"), "{status}");
        assert_eq!(answer.with(200), list);
        stale
    })
    .await;
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        assert_eq!(api.get("/tasks").await.with(200), list);
        times.push(start.elapsed());
    }
    assert!(median(&mut times) < Duration::from_millis(20), "{times:?}");
    // What nobody has asked for is not there.
    let mut times = Vec::new();
    for n in 1..=9 {
        let start = Instant::now();
        api.get(&format!("/tasks?limit={n}"))
            .await
            .problem(503, &[]);
        times.push(start.elapsed());
    }
    assert!(median(&mut times) < Duration::from_millis(20), "{times:?}");
    postgres.restart().unwrap();
    // The cache asks again after a pause, which grows while Postgres is away.
    eventually("the list is fresh again", async || {
        let answer = api.get("/tasks").await;
        let stale = answer.header("cache-status").contains("detail=sie");
        assert_eq!(answer.with(200), list);
        !stale
    })
    .await;
}

#[tokio::test]
async fn without_redis_reads_and_writes_go_on_and_what_is_pending_is_done_when_it_is_back() {
    let postgres = Postgres::start().unwrap();
    let mut redis = Redis::start().unwrap();
    let api = Service::over(&postgres.url(), &redis.url(), &[]);
    api.get("/tasks").await.with(200);
    redis.kill().unwrap();
    let mut times = Vec::new();
    for n in 1..=5 {
        let start = Instant::now();
        let added = api.post("/tasks", json!({"title": "t"})).await;
        assert_eq!(added.header("x-cache-invalidation"), "pending");
        added.with(201);
        let list = api.get("/tasks").await;
        times.push(start.elapsed());
        let status = list.header("cache-status").to_owned();
        assert!(status.contains("detail=store-unavailable"), "{status}");
        assert_eq!(list.with(200)["total"], n);
    }
    assert!(median(&mut times) < Duration::from_millis(250), "{times:?}");
    let changed = api.put("/tasks/1", json!({"title": "u"})).await;
    assert_eq!(changed.header("x-cache-invalidation"), "pending");
    changed.with(200);
    let removed = api.delete("/tasks/1").await;
    assert_eq!(removed.header("x-cache-invalidation"), "pending");
    removed.with(204);
    let pending = "SELECT count(*) FROM invalidations";
    assert_eq!(number(&postgres.url(), pending).await, 7);
    assert_eq!(api.get("/health").await.with(200)["redis"], "down");

    redis.restart().unwrap();
    eventually("nothing is pending", async || {
        number(&postgres.url(), pending).await == 0
    })
    .await;
    let added = api.post("/tasks", json!({"title": "t"})).await;
    assert_eq!(added.header("x-cache-invalidation"), "");
    added.with(201);
    api.get("/tasks").await.with(200);
    let list = api.get("/tasks").await;
    assert!(list.header("cache-status").contains("hit"), "{list:?}");
    assert_eq!(number(&postgres.url(), pending).await, 0);
}

#[tokio::test]
async fn a_redis_that_hung_does_not_keep_what_was_outdated_meanwhile() {
    let postgres = Postgres::start().unwrap();
    let redis = Redis::start().unwrap();
    let settings = [("CACHE_TTL_SECONDS", "1000")];
    let api = Service::over(&postgres.url(), &redis.url(), &settings);
    api.get("/tasks").await.with(200);
    assert!(
        api.get("/tasks")
            .await
            .header("cache-status")
            .contains("hit")
    );
    redis.suspend().unwrap();
    let added = api.post("/tasks", json!({"title": "t"})).await;
    assert_eq!(added.header("x-cache-invalidation"), "pending");
    added.with(201);
    assert_eq!(api.get("/tasks").await.with(200)["total"], 1);
    redis.resume().unwrap();
    eventually("the old list is gone from Redis", async || {
        let pending = "SELECT count(*) FROM invalidations";
        number(&postgres.url(), pending).await == 0
    })
    .await;
    assert_eq!(api.get("/tasks").await.with(200)["total"], 1);
    eventually("Redis is used again", async || {
        api.get("/tasks")
            .await
            .header("cache-status")
            .contains("hit")
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_locked_holds_up_its_own_requests_and_opens_no_breaker() {
    let (database, redis) = empty().await;
    let settings = [
        ("POSTGRES_CONNECTIONS", "2"),
        ("POSTGRES_TIMEOUT_SECONDS", "1"),
    ];
    let api = Service::over(&database, &redis, &settings);
    api.get("/users").await.with(200);
    let (client, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .unwrap();
    // Two wait for the lock, the others for a connection, and none for longer than it may.
    let start = Instant::now();
    let calls = (0..6).map(|_| api.get("/users"));
    for answer in futures::future::join_all(calls).await {
        answer.problem(503, &[]);
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    client.batch_execute("ROLLBACK").await.unwrap();
    api.get("/users").await.with(200);
}
