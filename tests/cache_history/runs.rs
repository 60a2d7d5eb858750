//! Runs, each with another store, and what came of them.

use crate::{
    check::{Broken, Promise, Violation, check},
    common::Redis,
    faults::mistreat,
    history::{History, How, Version},
    readers::{read, reader},
    world::{Instance, KEYS, World, Writing, connected},
    writers::{relay, repeat, writer},
};
use buttress::{
    cache::{Builder, Cache, Freshness, Store},
    redis::{RedisStore, Tiered},
};
use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

const FRESHNESS: Freshness = Freshness {
    fresh: Duration::from_millis(1500),
    stale_while_revalidate: Duration::from_millis(200),
    stale_if_error: Duration::from_millis(2000),
};

/// How memory is set, and the bound that follows.
const MAX_AGE: Duration = Duration::from_millis(400);
const HEARTBEAT: Duration = Duration::from_millis(250);
const BOUND: Duration = HEARTBEAT;

const INSTANCES: usize = 4;
const READERS: u64 = 3;
const WRITERS: u64 = 3;

fn terms() -> Builder {
    // Some loads take longer than their lease.
    Cache::builder("rows").freshness(FRESHNESS).lease(200 * MS)
}

fn store(redis: &Redis) -> RedisStore {
    let store = RedisStore::builder(redis.url()).namespace("app");
    store.connect().unwrap()
}

fn plain(redis: &Redis) -> Vec<Instance<RedisStore>> {
    let instance = |_| terms().store(store(redis)).build().unwrap();
    (0..INSTANCES).map(instance).collect()
}

fn tiered(redis: &Redis) -> Vec<Instance<Tiered<Version>>> {
    let memory = || {
        Tiered::builder(store(redis))
            .max_age(MAX_AGE)
            .heartbeat(HEARTBEAT)
            .build()
            .unwrap()
    };
    let instance = |_| terms().store(memory()).build().unwrap();
    (0..INSTANCES).map(instance).collect()
}

fn promise(bound: Duration) -> Promise {
    Promise {
        bound,
        fresh: FRESHNESS.fresh,
        end: FRESHNESS.end(),
    }
}

/// Everybody at once for so long; then the relay ends its work, and everything is read again.
async fn run<St: Store<Version>>(
    seed: u64,
    writing: Writing,
    lasts: Duration,
    redis: Redis,
    instances: Vec<Instance<St>>,
) -> (History, Arc<World<St>>) {
    connected(&instances).await;
    let world = World::new(seed, writing, instances).await;
    let mut history = History::default();
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    let mut connections = Vec::new();
    for instance in 0..INSTANCES {
        let db = Arc::new(world.connect().await);
        for n in 0..READERS {
            let who = 100 + instance as u64 * READERS + n;
            let reader = reader(Arc::clone(&world), Arc::clone(&db), instance, who);
            readers.push(tokio::spawn(reader));
        }
        connections.push(db);
    }
    for n in 0..WRITERS {
        writers.push(tokio::spawn(writer(Arc::clone(&world), 200 + n)));
    }
    writers.push(tokio::spawn(relay(Arc::clone(&world))));
    let faults = {
        let world = Arc::clone(&world);
        tokio::task::spawn_blocking(move || match world.writing {
            Writing::Right => mistreat(&world, redis),
            // What is wrong with the writers is to be found, and nothing else.
            Writing::Forgetful | Writing::TooSoon => redis,
        })
    };
    let began = Instant::now();
    let right = writing == Writing::Right;
    while began.elapsed() < lasts || (right && world.counts.lacks().is_some()) {
        assert!(
            began.elapsed() < 30_000 * MS,
            "seed {seed}: too few {:?}: {:?}",
            world.counts.lacks(),
            world.counts
        );
        sleep(20 * MS).await;
    }
    world.stop.store(true, SeqCst);
    let _redis = faults.await.unwrap();
    for writer in writers {
        let written = writer.await.unwrap();
        history.writes.extend(written.writes);
        history.acks.extend(written.acks);
    }
    for reader in readers {
        history.reads.extend(reader.await.unwrap());
    }

    let (db, began) = (world.connect().await, Instant::now());
    while repeat(&world, &db, 0, Duration::ZERO, &mut history.acks).await > 0 {
        assert!(began.elapsed() < 10_000 * MS, "the outbox is not drained");
        sleep(20 * MS).await;
    }
    history.drained = Some(world.now());
    sleep(BOUND).await;
    for _ in 0..3 {
        for (instance, db) in connections.iter().enumerate() {
            for key in 0..KEYS {
                let (world, db) = (Arc::clone(&world), Arc::clone(db));
                let read = read(world, db, instance, key, [Duration::ZERO; 2], false);
                history.reads.extend(read.await);
            }
        }
    }
    (history, world)
}

/// Every promise was kept.
fn assert_kept<St: Store<Version>>(history: &History, world: &World<St>, promise: Promise) {
    println!("seed {}: {:?}", world.seed, world.counts);
    let last = history.drained.unwrap() + promise.bound;
    let at_last = history.reads.iter().filter(|read| read.began > last);
    assert!(at_last.filter(|read| read.how == How::Hit).count() >= INSTANCES * KEYS);
    let violations = check(history, promise);
    let some = &violations[..violations.len().min(5)];
    assert!(
        violations.is_empty(),
        "seed {}: {} of {} reads: {some:#?}",
        world.seed,
        violations.len(),
        history.reads.len()
    );
}

// I1, I2, I3, I5, I6, I10, I11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_from_redis_is_older_than_what_was_acknowledged_before_it_began() {
    let redis = Redis::start().unwrap();
    let instances = plain(&redis);
    let (history, world) = run(1, Writing::Right, 5_000 * MS, redis, instances).await;
    assert_kept(&history, &world, promise(Duration::ZERO));
}

// The same, and I7, I8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_from_memory_is_older_than_what_was_acknowledged_a_bound_before_it_began() {
    let redis = Redis::start().unwrap();
    let instances = tiered(&redis);
    let (history, world) = run(2, Writing::Right, 5_000 * MS, redis, instances).await;
    assert_kept(&history, &world, promise(BOUND));
}

/// What was found of writers that do it wrong.
async fn found(writing: Writing) -> Vec<Violation> {
    let redis = Redis::start().unwrap();
    let instances = plain(&redis);
    let (history, _) = run(3, writing, 2_000 * MS, redis, instances).await;
    check(&history, promise(Duration::ZERO))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_acknowledge_without_invalidating_are_found_out() {
    let found = found(Writing::Forgetful).await;
    let old = |violation: &&Violation| matches!(violation.what, Broken::Old(_));
    assert!(found.iter().filter(old).count() > 20, "{}", found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_invalidate_before_they_commit_are_found_out() {
    let found = found(Writing::TooSoon).await;
    let old = |violation: &&Violation| matches!(violation.what, Broken::Old(_));
    assert!(found.iter().filter(old).count() > 0, "{}", found.len());
}
