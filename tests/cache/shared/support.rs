//! Instances of one application: each with a connection of its own.

use crate::{
    servers::Redis,
    support::{Answer, MS, SECOND, Source, terms},
};
use buttress::{
    cache::{Cache, CacheBuilder, Freshness, KeyRef, Store},
    redis::{RedisStore, Tiered},
};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// An instance.
pub(crate) type Instance<St = RedisStore> = Cache<u32, St>;

/// How long a lease lasts where nobody is to wait for its end.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Exact times, and patience with a Redis that is well on a machine that is busy.
pub(crate) fn patient() -> CacheBuilder {
    terms().lease(LEASE).store_timeout(10 * SECOND)
}

/// Fresh for so long, and then refreshed, or better than an error, for so long.
pub(crate) fn windows(fresh: Duration, revalidate: Duration, if_error: Duration) -> Freshness {
    Freshness {
        fresh,
        stale_while_revalidate: revalidate,
        stale_if_error: if_error,
    }
}

pub(crate) fn store(redis: &Redis) -> RedisStore {
    let store = RedisStore::builder(redis.url()).namespace("app");
    store.connect().unwrap()
}

pub(crate) async fn instance(redis: &Redis, terms: CacheBuilder) -> Instance {
    ready(terms.store(store(redis)).build().unwrap()).await
}

pub(crate) async fn instances(redis: &Redis, terms: impl Fn() -> CacheBuilder) -> [Instance; 2] {
    [
        instance(redis, terms()).await,
        instance(redis, terms()).await,
    ]
}

/// One with memory of its own. It hears of what others invalidate.
pub(crate) async fn tiered(redis: &Redis, terms: CacheBuilder) -> Instance<Tiered<u32>> {
    let tiered = Tiered::builder(store(redis)).heartbeat(10 * SECOND);
    let cache = ready(terms.store(tiered.build().unwrap()).build().unwrap()).await;
    eventually("it listens", async || cache.store().listens()).await;
    cache
}

/// Once it is connected.
async fn ready<St: Store<u32>>(cache: Instance<St>) -> Instance<St> {
    let nothing = KeyRef::new("").to_owned();
    let connected = async || cache.store().look(&nothing).await.is_ok();
    eventually("it is connected", connected).await;
    cache
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < 30 * SECOND, "not in time: {what}");
        tokio::time::sleep(2 * MS).await;
    }
}

/// A call of its own.
pub(crate) fn ask<St: Store<u32>>(
    source: &Source,
    cache: &Instance<St>,
) -> JoinHandle<(Answer, String)> {
    let (source, cache) = (source.clone(), cache.clone());
    tokio::spawn(async move { source.ask(&cache).await })
}

/// What Redis itself answers.
pub(crate) fn command<T: redis::FromRedisValue>(server: &Redis, command: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection_with_timeout(5 * SECOND).unwrap();
    let mut ask = redis::Cmd::new();
    ask.arg(command).query(&mut connection).unwrap()
}

/// The lease on the key "7", if somebody holds it.
pub(crate) fn lease(server: &Redis) -> Option<String> {
    command(server, &["GET", "app:l:{k=7}"])
}

/// Everything that is in Redis.
pub(crate) fn names(server: &Redis) -> Vec<String> {
    command(server, &["KEYS", "*"])
}

/// How long that took, and what came of it.
pub(crate) async fn timed<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let began = Instant::now();
    let answer = call.await;
    (began.elapsed(), answer)
}
