//! The cache before Postgres: what is kept in it, and how.

use crate::config::Config;
use axum::body::Bytes;
use buttress::{
    InvalidConfig,
    cache::{Cache, Codec, Freshness, InvalidationMode, InvalidationPending, KeyRef},
    redis::RedisStore,
};
use std::{error::Error, time::Duration};

/// An answer's JSON as it is sent, or that there is no such item: which is kept as well, or
/// whoever asks for what is not there would reach Postgres each time.
pub(crate) type Body = Option<Bytes>;

/// All instances share it in Redis.
pub(crate) type Answers = Cache<Body, RedisStore<Plain>>;

/// Every list, whatever its limit, is outdated by any write.
pub(crate) const LISTS: &str = "lists";

/// The most that the cache takes.
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn new(config: &Config, redis: &str) -> Result<Answers, InvalidConfig> {
    let store = RedisStore::builder(redis)
        .namespace("data_service")
        .codec(Plain)
        .connect()?;
    let revalidate = (10 * config.fresh).max(3 * config.postgres_timeout);
    Cache::builder("items")
        .freshness(Freshness {
            fresh: config.fresh,
            // Nobody waits for Postgres who has something to answer with that is not much older
            // than fresh: not even the one whose call is the probe that finds out whether it still
            // hangs. Three timeouts at least: by then its breaker is open.
            stale_while_revalidate: revalidate.min(config.stale),
            stale_if_error: config.stale,
        })
        // As long as a load and its fill can take, and hardly longer: should its holder die, others
        // wait for its end.
        .lease((config.postgres_timeout + 2 * config.redis_timeout).min(HOUR))
        .store_timeout(config.redis_timeout.min(HOUR))
        // Two retries, here only: what Postgres is asked for is not cheap.
        .store_attempts(3)
        .store(store)
        .build()
}

/// What a write of this item outdates: that there was no such item, and all lists. Until there is a
/// new one, a list in which one item is missing is better than none.
pub(crate) async fn outdate(answers: &Answers, id: i64) -> Result<(), InvalidationPending> {
    let lists = answers
        .invalidate_tag_with(LISTS, InvalidationMode::Keep)
        .await;
    answers.invalidate(&item(id)).await?;
    lists
}

/// The key of an item.
pub(crate) fn item(id: i64) -> String {
    format!("item:{id}")
}

/// The key of a list.
pub(crate) fn list(limit: &str) -> KeyRef<'_> {
    KeyRef::new(limit).tagged(LISTS)
}

/// JSON as it is; what is not there is nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

impl Codec<Body> for Plain {
    fn encode(&self, value: &Body, out: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        out.extend_from_slice(value.as_deref().unwrap_or_default());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Body, Box<dyn Error + Send + Sync>> {
        Ok((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)))
    }
}
