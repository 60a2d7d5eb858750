//! Lists from Redis: one entry per query, gone with every write, on every instance.

use crate::process::{Service, empty, eventually, sql};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// What `Cache-Status` says of this list.
async fn status(api: &Service, query: &str) -> String {
    let answer = api.get(&format!("/tasks{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let status = answer.header("cache-status").to_owned();
    assert!(status.starts_with("tasks; "), "{status:?}");
    assert!(!answer.header("age").is_empty());
    status
}

#[tokio::test]
async fn a_query_has_one_entry_however_it_is_written() {
    let api = Service::start().await;
    api.add("/tasks", json!({"title": "t"})).await;
    assert_eq!(status(&api, "").await, "tasks; fwd=uri-miss; stored");
    for query in [
        "",
        "?",
        "?limit=100",
        "?offset=0&sort=id&limit=100",
        "?sort=%69d",
    ] {
        assert!(status(&api, query).await.contains("hit"), "{query}");
    }
    for query in [
        "?limit=99",
        "?offset=1",
        "?sort=-id",
        "?sort=title",
        "?status=pending",
        "?user_id=1",
        "?category_id=1",
        "?search=x",
        "?search=X",
        "?search=",
        "?search=x%20status=pending",
        "?search=x&status=pending",
    ] {
        assert!(status(&api, query).await.contains("stored"), "{query}");
        assert!(status(&api, query).await.contains("hit"), "{query}");
    }
}

#[tokio::test]
async fn every_write_of_a_task_and_nothing_else_removes_all_lists() {
    let api = Service::start().await;
    let fill = async || {
        for query in ["", "?sort=-title", "?status=completed"] {
            status(&api, query).await;
            assert!(status(&api, query).await.contains("hit"), "{query}");
        }
    };
    let removed = async |what: &str| {
        for query in ["", "?sort=-title", "?status=completed"] {
            assert!(
                status(&api, query).await.contains("stored"),
                "{what} {query}"
            );
        }
    };
    fill().await;
    let added = api.post("/tasks", json!({"title": "t"})).await;
    assert_eq!(added.header("x-cache-invalidation"), "");
    added.with(201);
    removed("POST").await;
    api.put("/tasks/1", json!({"status": "completed"}))
        .await
        .with(200);
    removed("PUT").await;
    api.delete("/tasks/1").await.with(204);
    removed("DELETE").await;
    // Lists have nothing in them of what these change, or fail to change.
    api.post("/tasks", json!({})).await.with(422);
    api.post("/tasks", json!({"title": "t", "user_id": 9}))
        .await
        .with(422);
    api.put("/tasks/1", json!({})).await.with(404);
    api.delete("/tasks/1").await.with(404);
    api.add("/users", json!({"name": "n", "email": "a@b.cd"}))
        .await;
    api.add("/categories", json!({"name": "n"})).await;
    fill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_on_one_instance_is_read_on_the_other_at_once() {
    let (database, redis) = empty().await;
    let quiet = [("LOG_REQUESTS", "false")];
    let two = [(); 2].map(|()| Service::over(&database, &redis, &quiet));
    // Readers on both, who fill the cache all the time.
    let ended = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..6)
        .map(|n| {
            let api = &two[n % 2];
            let (client, url) = (api.client.clone(), format!("{}/tasks?sort=-id", api.url));
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut hits = 0;
                while !ended.load(Relaxed) {
                    let answer = client.get(&url).send().await.unwrap();
                    let status = answer.headers()["cache-status"].to_str().unwrap();
                    hits += u32::from(status.contains("; hit"));
                    answer.bytes().await.unwrap();
                }
                hits
            })
        })
        .collect();
    let mut last = 0;
    for n in 0..60 {
        let (writer, reader) = (&two[n % 2], &two[(n + 1) % 2]);
        let path = format!("/tasks/{last}");
        match n % 3 {
            0 => {
                last = writer.add("/tasks", json!({"title": "new"})).await;
                let ids = reader.column("/tasks?sort=-id", "id").await;
                assert_eq!(ids[0], last);
            }
            1 => {
                let title = format!("t{n}");
                writer.put(&path, json!({"title": title})).await.with(200);
                let titles = reader.column("/tasks?sort=-id", "title").await;
                assert_eq!(titles[0], title);
            }
            _ => {
                writer.delete(&path).await.with(204);
                let ids = reader.column("/tasks?sort=-id", "id").await;
                assert!(!ids.contains(&json!(last)));
            }
        }
    }
    ended.store(true, Relaxed);
    let mut hits = 0;
    for reader in readers {
        hits += reader.await.unwrap();
    }
    assert!(hits > 0, "nothing was cached");
}

#[tokio::test]
async fn many_who_miss_the_same_list_on_two_instances_load_it_once() {
    let (database, redis) = empty().await;
    let two = [(); 2].map(|()| Service::over(&database, &redis, &[]));
    let calls = (0..100).map(|n| {
        let api = &two[n % 2];
        async move { status(api, "?sort=-title").await }
    });
    let statuses = futures::future::join_all(calls).await;
    let loads = statuses
        .iter()
        .filter(|status| !status.contains("hit") && !status.contains("collapsed"));
    assert_eq!(loads.count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn the_writes_of_an_instance_that_was_killed_before_it_told_redis_are_told_by_another() {
    let (database, redis) = empty().await;
    let api = Service::over(&database, &redis, &[("CACHE_TTL_SECONDS", "1000")]);
    status(&api, "").await;
    assert!(status(&api, "").await.contains("hit"));
    // As such an instance leaves it: the row and its note, and nobody who tells.
    let written = "INSERT INTO tasks (title) VALUES ('left'); \
                   INSERT INTO invalidations (tag) VALUES ('tasks');";
    sql(&database, written).await;
    eventually("the list has the row", async || {
        api.column("/tasks", "title").await == ["left"]
    })
    .await;
}

#[tokio::test]
async fn databases_that_share_a_redis_do_not_share_lists() {
    let ((one, redis), (other, _)) = (empty().await, empty().await);
    let one = Service::over(&one, &redis, &[]);
    let other = Service::over(&other, &redis, &[("CACHE_NAMESPACE", "other")]);
    // It boots a Postgres of its own, which is nobody else's.
    let own = Service::run(&[], &[("REDIS_URL", &redis)], "listening on");
    one.add("/tasks", json!({"title": "of one"})).await;
    assert_eq!(one.get("/tasks").await.with(200)["total"], 1);
    for api in [other, own] {
        assert_eq!(status(&api, "").await, "tasks; fwd=uri-miss; stored");
        assert_eq!(api.get("/tasks").await.with(200)["total"], 0);
    }
    assert!(status(&one, "").await.contains("hit"));
}
