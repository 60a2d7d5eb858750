//! A cache over the store: several instances, one Redis, and what befalls it.

use super::{server::Server, support::*, tiered::HEARTBEAT};
use buttress::{
    Error,
    cache::{Cache, Freshness, Store},
    redis::{RedisStore, Tiered},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

type Failure = Error<Infallible>;

fn cached<St: Store<String>>(store: St) -> Cache<String, St> {
    Cache::builder("rows")
        .freshness(Freshness::fresh(10 * S))
        .lease(5 * S)
        // On a machine that is busy, a Redis that is well may take its time.
        .store_timeout(2 * S)
        .store(store)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_crowd_on_four_instances_makes_one_load() {
    let server = Server::start();
    let mut instances = Vec::new();
    for _ in 0..4 {
        instances.push(cached(connect(&server).await));
    }
    let loads = Arc::new(AtomicU64::new(0));
    let calls = (0..2000).map(|i| {
        let loads = Arc::clone(&loads);
        instances[i % 4].run("7", move || async move {
            loads.fetch_add(1, SeqCst);
            sleep(20 * MS).await;
            Ok::<_, Failure>("a row".to_owned())
        })
    });
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().value, "a row");
    }
    assert_eq!(loads.load(SeqCst), 1);
}

/// What was acknowledged before a call is seen by it, `bound` later, whoever asks, and whatever
/// befalls Redis meanwhile.
async fn holds<St: Store<String>>(
    server: &mut Server,
    instances: Vec<Cache<String, St>>,
    bound: Duration,
    mishap: impl Fn(&mut Server),
) {
    let row = Arc::new(AtomicU64::new(0));
    let mut acknowledged = Vec::new();
    let began = Instant::now();
    let (mut hits, mut misses) = (0, 0);
    let mut next_mishap = 500 * MS;
    while began.elapsed() < 2 * S {
        if began.elapsed() > next_mishap {
            mishap(server);
            next_mishap += 700 * MS;
        }
        let version = row.fetch_add(1, SeqCst) + 1;
        // Pending: not acknowledged, so nobody may rely on it.
        if instances[version as usize % instances.len()]
            .invalidate("7")
            .await
            .is_ok()
        {
            acknowledged.push((Instant::now(), version));
        }
        for _ in 0..5 {
            let reads = instances.iter().map(async |instance| {
                let asked = Instant::now();
                let row = Arc::clone(&row);
                let load = move || async move {
                    let seen = row.load(SeqCst);
                    sleep(MS).await;
                    Ok::<_, Failure>(seen.to_string())
                };
                (asked, instance.run("7", load).await.unwrap())
            });
            for (asked, answer) in futures::future::join_all(reads).await {
                let known = acknowledged.partition_point(|(when, _)| *when + bound < asked);
                let least = known.checked_sub(1).map_or(0, |at| acknowledged[at].1);
                let seen: u64 = answer.value.parse().unwrap();
                assert!(seen >= least, "{seen} after {least}: {}", answer.status);
                match answer.status.hit() {
                    true => hits += 1,
                    false => misses += 1,
                }
            }
        }
    }
    assert!(hits > 50 && misses > 20, "{hits} {misses}");
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
}

#[tokio::test]
async fn no_read_after_an_acknowledged_write_sees_the_old_row_while_redis_is_restarted() {
    let mut server = Server::start();
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(cached(connect(&server).await));
    }
    holds(&mut server, instances, Duration::ZERO, Server::restart).await;
}

#[tokio::test]
async fn nor_while_redis_comes_back_with_what_it_had_before() {
    let mut server = Server::start();
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(cached(connect(&server).await));
    }
    let saved = std::sync::atomic::AtomicBool::new(false);
    // By turns it saves, and comes back as it was then.
    let roll_back = |server: &mut Server| match saved.fetch_not(SeqCst) {
        false => server.ask::<()>(&["SAVE"]),
        true => server.restart(),
    };
    holds(&mut server, instances, Duration::ZERO, roll_back).await;
}

#[tokio::test]
async fn nor_from_memory_a_heartbeat_later() {
    let mut server = Server::start();
    let mut instances = Vec::new();
    for _ in 0..3 {
        let redis = connect(&server).await;
        let store = Tiered::builder(redis).heartbeat(HEARTBEAT).build().unwrap();
        eventually("it listens", async || store.listens()).await;
        instances.push(cached(store));
    }
    holds(&mut server, instances, HEARTBEAT, Server::restart).await;
}

// The store is away: the source answers.
#[tokio::test]
async fn a_cache_without_its_redis_loads() {
    let store = RedisStore::builder("redis://127.0.0.1:1")
        .namespace("app")
        .codec(Text)
        .connect()
        .unwrap();
    let cache = cached(store);
    for _ in 0..20 {
        let load = || async { Ok::<_, Failure>("a row".to_owned()) };
        assert_eq!(cache.run("7", load).await.unwrap().value, "a row");
    }
    assert!(cache.invalidate("7").await.is_err());
}
