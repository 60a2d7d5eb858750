//! The stores, and a cache over each.

use crate::servers::Redis;
use buttress::{
    cache::{Binary, Cache, CacheBuilder, Freshness, KeyRef, MemoryStore, Store},
    http::StoredResponse,
    redis::{RedisStore, Tiered},
};
use std::time::{Duration, Instant};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Fresh for a minute, and better than an error for ten more.
pub(crate) const TERMS: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::from_secs(600),
};

/// Exact times, and patience with a Redis that is well on a machine that is busy.
pub(crate) fn terms() -> CacheBuilder {
    let terms = Cache::builder("pages").freshness(TERMS).jitter(0.0);
    let terms = terms.early_refresh(0.0).lease(60 * SECOND);
    terms.store_timeout(10 * SECOND)
}

pub(crate) fn memory() -> MemoryStore<StoredResponse> {
    MemoryStore::entries(10_000).unwrap()
}

pub(crate) fn shared(redis: &Redis) -> RedisStore<Binary> {
    let store = RedisStore::builder(redis.url()).namespace("app");
    store.codec(Binary).connect().unwrap()
}

pub(crate) fn tiered(redis: &Redis) -> Tiered<StoredResponse, Binary> {
    let store = Tiered::builder(shared(redis)).heartbeat(10 * SECOND);
    store.build().unwrap()
}

/// A cache over this store, once that is connected.
pub(crate) async fn cache<St: Store<StoredResponse>>(store: St) -> Cache<StoredResponse, St> {
    cache_of(terms(), store).await
}

/// A cache of these terms over this store, once that is connected.
pub(crate) async fn cache_of<St: Store<StoredResponse>>(
    terms: CacheBuilder,
    store: St,
) -> Cache<StoredResponse, St> {
    let cache = terms.store(store).build().unwrap();
    let nothing = KeyRef::new("").to_owned();
    let connected = async || cache.store().look(&nothing).await.is_ok();
    eventually("it is connected", connected).await;
    cache
}

/// One with memory of its own, once it hears of what others invalidate.
pub(crate) async fn listening(
    redis: &Redis,
) -> Cache<StoredResponse, Tiered<StoredResponse, Binary>> {
    let cache = cache(tiered(redis)).await;
    eventually("it listens", async || cache.store().listens()).await;
    cache
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < 30 * SECOND, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
