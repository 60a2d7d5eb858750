//! Redis is away, or hangs.

use super::{server::Server, support::*};
use buttress::{
    cache::{AcquireOptions, Acquired, InvalidationMode, Store, StoreError},
    redis::RedisStore,
};
use std::time::Instant;
use tokio::time::timeout;

#[tokio::test]
async fn a_store_can_be_built_while_redis_is_away_and_finds_it_when_it_comes() {
    let mut server = Server::start();
    server.kill();
    let store = RedisStore::builder(server.url())
        .namespace("app")
        .codec(Text)
        .connect()
        .unwrap();
    let error = store.look(&key("7")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    server.restart();
    connected(&store).await;
    put(&store, &key("7"), "x").await;
}

#[tokio::test]
async fn calls_fail_at_once_while_redis_is_dead_and_work_soon_after_it_is_back() {
    let mut server = Server::start();
    let store = connect(&server).await;
    put(&store, &key("7"), "x").await;
    for _ in 0..3 {
        server.kill();
        eventually("it is noticed", async || {
            store.look(&key("7")).await.is_err()
        })
        .await;
        let began = Instant::now();
        for _ in 0..100 {
            let error = store
                .invalidate(&key("7"), InvalidationMode::Drop)
                .await
                .unwrap_err();
            assert!(
                error.to_string().starts_with("the store is not available"),
                "{error}"
            );
        }
        assert!(began.elapsed() < S, "{:?}", began.elapsed());
        // Long enough for the pauses to have become as long as they get.
        tokio::time::sleep(700 * MS).await;
        server.restart();
        let back = Instant::now();
        connected(&store).await;
        assert!(back.elapsed() < 2 * S, "{:?}", back.elapsed());
        put(&store, &key("7"), "y").await;
    }
}

#[tokio::test]
async fn a_restart_that_nobody_called_in_is_noticed_by_itself() {
    let mut server = Server::start();
    let store = connect(&server).await;
    let run = || format!("{store:?}");
    let before = run();
    server.restart();
    let back = Instant::now();
    eventually("it is noticed", async || {
        run() != before && run().contains("run")
    })
    .await;
    assert!(back.elapsed() < 2 * S, "{:?}", back.elapsed());
    // The very first call works.
    put(&store, &key("7"), "x").await;
}

#[tokio::test]
async fn calls_to_a_redis_that_hangs_can_be_dropped_and_it_works_when_it_goes_on() {
    let server = Server::start();
    let store = connect(&server).await;
    put(&store, &key("7"), "x").await;
    for hang in [200 * MS, 2500 * MS] {
        server.stop();
        let until = Instant::now() + hang;
        let mut failed = false;
        while Instant::now() < until {
            if let Ok(answer) = timeout(50 * MS, store.look(&key("7"))).await {
                failed |= answer.is_err();
                tokio::time::sleep(5 * MS).await;
            }
        }
        // A long one is noticed: then calls fail at once.
        assert_eq!(failed, hang > S);
        server.go_on();
        let back = Instant::now();
        connected(&store).await;
        assert!(back.elapsed() < 2 * S, "{:?}", back.elapsed());
        assert_eq!(look(&store, &key("7")).await.unwrap().value, "x");
    }
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_brought_again() {
    let server = Server::start();
    let store = connect(&server).await;
    put(&store, &key("7"), "x").await;
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    put(&store, &key("8"), "y").await;
    assert_eq!(fresh(acquire(&store, &key("7")).await).value, "x");
}

#[tokio::test]
async fn a_store_that_is_dropped_closes_its_connection() {
    let server = Server::start();
    let clients = || server.ask::<String>(&["CLIENT", "LIST"]).lines().count();
    let alone = 1;
    let store = connect(&server).await;
    eventually("it is open", async || clients() == alone + 1).await;
    drop(store.clone());
    connected(&store).await;
    drop(store);
    eventually("it is closed", async || clients() == alone).await;
}

#[tokio::test]
async fn a_replica_is_not_taken_for_the_master() {
    let mut server = Server::start();
    let store = connect(&server).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    eventually("it is noticed", async || {
        store.look(&key("7")).await.is_err()
    })
    .await;
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    connected(&store).await;
    server.kill();
}

#[tokio::test]
async fn a_connection_that_a_call_finds_broken_is_replaced_without_waiting_for_the_next_beat() {
    let server = Server::start();
    let store = connect(&server).await;
    let began = Instant::now();
    for _ in 0..6 {
        server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        connected(&store).await;
    }
    // Half a second apart, they would take three.
    assert!(began.elapsed() < 1500 * MS, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_lease_that_nobody_waited_for_is_given_back() {
    let server = Server::start();
    let store = connect(&server).await;
    let keys: Vec<_> = (0..20).map(|i| tagged(&i.to_string(), "items")).collect();
    server.stop();
    for key in &keys {
        assert!(timeout(5 * MS, acquire(&store, key)).await.is_err());
    }
    server.go_on();
    // Redis grants the leases now; they would last for ten seconds.
    eventually("all is loaded", async || {
        for key in &keys {
            if let Ok(Acquired::Leased { lease, .. }) =
                store.acquire(key, AcquireOptions::new(S)).await
            {
                let _ = try_fill(&store, key, lease, "x").await;
            }
        }
        server.ask::<Vec<String>>(&["KEYS", "app:v:*"]).len() == keys.len()
    })
    .await;
}
