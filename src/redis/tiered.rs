//! Memory over Redis.

use super::{
    invalidations::{listen, resp3},
    keys::Invalidated,
    store::{RedisLease, RedisStore},
    tier::{Mark, Tier, Weigher},
};
use crate::{
    cache::{
        AcquireOptions, Acquired, Codec, Entry, EntryKey, Fill, Hit, InvalidationMode, Json,
        KeyRef, Store, StoreError,
    },
    clock::Now,
    error::InvalidConfig,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::task::AbortHandle;

const STORE: &str = "tiered store";

/// A store that keeps fresh answers in memory as well, over a [`RedisStore`].
///
/// An answer that is in memory costs no round trip. The price: after an invalidation by **another**
/// instance was acknowledged, this one may go on answering from memory. It does so for at most
///
/// ```text
/// min(max_age, heartbeat)        by default min(5 s, 3 s) = 3 s
/// ```
///
/// and usually only for the moment that a message takes. Its own invalidations take effect at once.
/// The bound holds however late messages are, and even if they never arrive: invalidations come
/// over a connection of their own, which is pinged every third of a heartbeat, and memory answers
/// only within a heartbeat of the last ping that was answered. When that connection is lost,
/// everything in memory is forgotten before the next connection is used. This takes Redis 6 or
/// later; with an earlier version, memory never answers.
///
/// In a cluster that has split in two, the bound is `max_age`.
#[doc(alias = "two_tier")]
#[doc(alias = "near_cache")]
#[doc(alias = "client_side_caching")]
pub struct Tiered<V, C = Json> {
    redis: RedisStore<C>,
    tier: Arc<Tier<V>>,
    listener: AbortHandle,
}

/// A lease that proves that its holder may fill an entry of a [`Tiered`].
#[derive(Debug)]
pub struct TieredLease {
    lease: RedisLease,
    mark: Mark,
}

/// The settings of a [`Tiered`], begun by [`Tiered::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[must_use = "nothing is built before `build`"]
pub struct TieredBuilder<V, C = Json> {
    redis: RedisStore<C>,
    capacity: usize,
    weigher: Option<Weigher<V>>,
    max_age: Duration,
    heartbeat: Duration,
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Tiered<V, C> {
    /// Returns the settings of a memory tier over this store.
    ///
    /// ```no_run
    /// use buttress::redis::{RedisStore, Tiered};
    /// use std::sync::Arc;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), buttress::InvalidConfig> {
    /// let redis = RedisStore::builder("redis://127.0.0.1:6379").namespace("shop").connect()?;
    /// let store = Tiered::builder(redis).weighed(64 << 20, |text: &String| text.len()).build()?;
    /// # let _ = store;
    /// # Ok(()) }
    /// ```
    pub fn builder(redis: RedisStore<C>) -> TieredBuilder<V, C> {
        TieredBuilder {
            redis,
            capacity: 10_000,
            weigher: None,
            max_age: Duration::from_secs(5),
            heartbeat: Duration::from_secs(3),
        }
    }

    /// Returns whether memory may answer now, because this instance would hear of invalidations.
    pub fn listens(&self) -> bool {
        self.tier.listens()
    }

    /// Returns how many answers are in memory.
    pub fn len(&self) -> usize {
        self.tier.len()
    }

    /// Returns whether no answer is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> TieredBuilder<V, C> {
    /// Sets how many answers are kept in memory at most, whatever their size: 1 to 4,294,967,295.
    /// The default is 10,000.
    pub fn entries(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self.weigher = None;
        self
    }

    /// Sets how many bytes are kept in memory at most, instead of how many answers. From 1 KiB to
    /// 1 PiB.
    ///
    /// The function returns what an answer weighs, in bytes; its key, its tag and some 160 bytes
    /// for its place are added. An answer that weighs more than a few per cent of the whole is not
    /// kept.
    pub fn weighed(
        mut self,
        bytes: usize,
        weigh: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.capacity = bytes;
        self.weigher = Some(Arc::new(weigh));
        self
    }

    /// Sets how long memory may return an answer after Redis was asked for it. More than zero. The
    /// default is 5 s: one round trip per key every 5 s is hardly noticed.
    #[doc(alias = "ttl")]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Sets how long memory answers after Redis was last heard from. At least 10 ms. The default is
    /// 3 s, which takes one ping a second.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Builds the store, which begins to listen for invalidations in the background. Until it does,
    /// memory does not answer.
    ///
    /// # Errors
    /// If a setting is out of the range that its setter states.
    pub fn build(self) -> Result<Tiered<V, C>, InvalidConfig> {
        let Self {
            redis,
            capacity,
            weigher,
            max_age,
            heartbeat,
        } = self;
        let (field, least, most, accepts) = match &weigher {
            Some(_) => ("bytes", 1 << 10, 1 << 50, "1 KiB to 1 PiB"),
            None => ("entries", 1, u64::from(u32::MAX), "1 to 4294967295"),
        };
        let fits = (least..=most).contains(&(capacity as u64));
        InvalidConfig::check(fits, STORE, field, capacity, accepts)?;
        InvalidConfig::check(
            !max_age.is_zero(),
            STORE,
            "max_age",
            max_age,
            "more than zero",
        )?;
        let least = Duration::from_millis(10);
        InvalidConfig::check(
            heartbeat >= least,
            STORE,
            "heartbeat",
            heartbeat,
            "10 ms or more",
        )?;

        let client = resp3(redis.link().client()).map_err(|error| {
            InvalidConfig::new(STORE, "redis", error, "a server that speaks RESP3")
        })?;
        let tier = Arc::new(Tier::new(capacity, weigher, max_age));
        let listen = listen(
            Arc::clone(&tier),
            client,
            redis.channel().to_owned(),
            heartbeat,
        );
        let listener = redis.link().runtime().spawn(listen).abort_handle();
        Ok(Tiered {
            redis,
            tier,
            listener,
        })
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Store<V> for Tiered<V, C> {
    type Lease = TieredLease;

    fn peek(&self, key: KeyRef<'_>, now: &Now) -> Option<Hit<V>> {
        self.tier.peek(key, now).map(Hit::from)
    }

    async fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<V, TieredLease>, StoreError> {
        let mark = self.tier.mark(key);
        let (acquired, run) = self.redis.ask(key, ask).await?;
        Ok(match acquired {
            Acquired::Fresh(entry) => {
                self.tier.keep(key, mark, &run, || entry.clone());
                Acquired::Fresh(entry)
            }
            Acquired::Leased { lease, known } => {
                let lease = TieredLease { lease, mark };
                Acquired::Leased { lease, known }
            }
            Acquired::Busy { lasts, known } => Acquired::Busy { lasts, known },
        })
    }

    async fn fill(
        &self,
        key: &EntryKey,
        lease: &TieredLease,
        fill: Fill<V>,
    ) -> Result<bool, StoreError> {
        let TieredLease { lease, mark } = lease;
        let Fill {
            value,
            freshness,
            cost,
        } = fill;
        let accepted = self
            .redis
            .offer(key, lease, &value, freshness, cost)
            .await?;
        // What Redis did not take may have been invalidated already.
        if accepted {
            self.tier.keep(key, *mark, &lease.run, || Entry {
                value,
                // Its age counts from the grant, which was no earlier than it was asked for.
                age: Duration::ZERO,
                read: lease.sent,
                freshness,
                cost,
                outdated: false,
            });
        }
        Ok(accepted)
    }

    async fn release(&self, key: &EntryKey, lease: TieredLease) -> Result<(), StoreError> {
        self.redis.give_back(key, &lease.lease).await
    }

    async fn look(&self, key: &EntryKey) -> Result<Option<Entry<V>>, StoreError> {
        self.redis.stored(key).await
    }

    async fn invalidate(&self, key: &EntryKey, mode: InvalidationMode) -> Result<(), StoreError> {
        let _forget = Forget(&self.tier, Invalidated::Entry(key.as_ref()));
        self.redis.remove(key, mode).await
    }

    async fn invalidate_tag(&self, tag: &str, mode: InvalidationMode) -> Result<(), StoreError> {
        let _forget = Forget(&self.tier, Invalidated::Tag(tag));
        self.redis.remove_tag(tag, mode).await
    }
}

/// Forgets when it is dropped: after Redis has done it, so that nobody who asked in between brings
/// the old one back; and also if Redis could not be reached, or nobody waited for it.
struct Forget<'a, V: Clone>(&'a Tier<V>, Invalidated<'a>);

impl<V: Clone> Drop for Forget<'_, V> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl<V, C> Drop for Tiered<V, C> {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl<V, C> fmt::Debug for Tiered<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("redis", &self.redis)
            .finish_non_exhaustive()
    }
}

impl<V, C> fmt::Debug for TieredBuilder<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder")
            .field("redis", &self.redis)
            .field("capacity", &self.capacity)
            .field("max_age", &self.max_age)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
