//! Postgres or Redis away.

use crate::{
    common::{Postgres, Redis},
    process::{Service, eventually},
};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn without_postgres_it_says_so_in_milliseconds_and_is_back_when_postgres_is() {
    let mut postgres = Postgres::start().unwrap();
    let redis = Redis::start().unwrap();
    let api = Service::over(&postgres.url(), &redis.url(), &[]);
    api.add("/tasks", json!({"title": "t"})).await;
    postgres.kill().unwrap();
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
        let took = start.elapsed();
        assert!(
            !answer.header("retry-after").is_empty(),
            "{what}: {answer:?}"
        );
        answer.problem(503, &[]);
        assert!(took < Duration::from_millis(200), "{what}: {took:?}");
    }
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
