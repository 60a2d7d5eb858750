//! Runs, each with another store, and what came of them.

use crate::{
    check::{Broken, Promise, Violation, check},
    faults::mistreat,
    history::{History, How, Version},
    readers::{read, reader},
    servers::Redis,
    wire::Wire,
    world::{Ending, KEYS, World, Writing, connected},
    writers::{relay, repeat, writer},
};
use buttress::{
    cache::{Cache, CacheBuilder, Freshness, Store},
    redis::{RedisStore, Tiered},
};
use std::{
    collections::HashSet,
    env,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

const FRESHNESS: Freshness = Freshness {
    fresh: Duration::from_millis(1500),
    stale_while_revalidate: Duration::from_millis(200),
    stale_if_error: Duration::from_millis(2000),
};

/// What an instance with memory is allowed: the shorter of how it is set.
const BOUND: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(60);

const INSTANCES: usize = 4;
const READERS: u64 = 3;
const WRITERS: u64 = 3;

fn terms() -> CacheBuilder {
    // Some loads take longer than their lease.
    Cache::builder("rows").freshness(FRESHNESS).lease(200 * MS)
}

/// What a store is made from, and what it is allowed.
trait Kind {
    type Store: Store<Version>;
    fn store(&self, redis: RedisStore) -> Self::Store;
    fn bound(&self) -> Duration;
}

/// Redis alone.
struct Plain;

impl Kind for Plain {
    type Store = RedisStore;
    fn store(&self, redis: RedisStore) -> RedisStore {
        redis
    }
    fn bound(&self) -> Duration {
        Duration::ZERO
    }
}

/// With memory, in which an answer is good for so long, if Redis was heard so long ago.
struct Memory {
    max_age: Duration,
    heartbeat: Duration,
}

impl Kind for Memory {
    type Store = Tiered<Version>;
    fn store(&self, redis: RedisStore) -> Tiered<Version> {
        let memory = Tiered::builder(redis).max_age(self.max_age);
        memory.heartbeat(self.heartbeat).build().unwrap()
    }
    fn bound(&self) -> Duration {
        self.max_age.min(self.heartbeat)
    }
}

fn promise(bound: Duration) -> Promise {
    Promise {
        bound,
        fresh: FRESHNESS.fresh,
        end: FRESHNESS.end(),
    }
}

/// Everybody at once for so long; then the relay ends its work, and everything is read again.
async fn run<K: Kind>(
    seed: u64,
    writing: Writing,
    lasts: Duration,
    kind: &K,
) -> (History, Arc<World<K::Store>>) {
    let redis = Redis::start().unwrap();
    let (mut wires, mut instances) = (Vec::new(), Vec::new());
    for _ in 0..INSTANCES {
        let wire = Wire::to(redis.port()).await;
        let store = RedisStore::builder(wire.url()).namespace("app");
        let store = kind.store(store.connect().unwrap());
        instances.push(terms().store(store).build().unwrap());
        wires.push(wire);
    }
    connected(&instances).await;
    let world = World::new(seed, writing, wires, instances).await;
    let ending = Ending(Arc::clone(&world));
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
    drop(ending);
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
    sleep(kind.bound()).await;
    // Everywhere, until Redis is used again everywhere.
    let (mut hits, began) = (HashSet::new(), Instant::now());
    while hits.len() < INSTANCES * KEYS {
        assert!(began.elapsed() < 10_000 * MS, "Redis is not used again");
        for (instance, db) in connections.iter().enumerate() {
            for key in 0..KEYS {
                let (world, db) = (Arc::clone(&world), Arc::clone(db));
                let read = read(world, db, instance, key, [Duration::ZERO; 2], false).await;
                if read.is_some_and(|read| read.how == How::Hit) {
                    hits.insert((instance, key));
                }
                history.reads.extend(read);
            }
        }
        sleep(10 * MS).await;
    }
    (history, world)
}

/// Every promise was kept.
fn assert_kept<St: Store<Version>>(history: &History, world: &World<St>, promise: Promise) {
    println!("seed {}: {:?}", world.seed, world.counts);
    let strict = Promise {
        bound: Duration::ZERO,
        ..promise
    };
    println!("late: {}", check(history, strict).len());
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

/// `SEED=7` in the environment makes it another one.
async fn keeps(seed: u64, kind: impl Kind) {
    let other = env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let seed = seed + 10 * other;
    let (history, world) = run(seed, Writing::Right, 4_000 * MS, &kind).await;
    assert_kept(&history, &world, promise(kind.bound()));
}

// I1, I2, I3, I5, I6, I10, I11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_from_redis_is_older_than_what_was_acknowledged_before_it_began() {
    keeps(1, Plain).await;
}

// The same, and I7, I8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_from_memory_is_older_than_what_was_acknowledged_a_heartbeat_before_it_began() {
    let memory = Memory {
        max_age: LONG,
        heartbeat: BOUND,
    };
    keeps(2, memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_from_memory_is_older_than_what_was_acknowledged_its_longest_age_before_it_began() {
    let memory = Memory {
        max_age: BOUND,
        heartbeat: LONG,
    };
    keeps(3, memory).await;
}

/// What was found of writers that do it wrong.
async fn found(writing: Writing) -> Vec<Violation> {
    let (history, _) = run(4, writing, 2_000 * MS, &Plain).await;
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
