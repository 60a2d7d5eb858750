//! Answers that are kept, so that they need not be asked for, and stale ones to fall back on.
//!
//! Cache-aside around any load: what is **fresh** is answered at once. What is **stale** may be
//! answered while a new answer is looked for in the background (stale-while-revalidate), and is
//! answered when there is no newer one to be had, because the load failed (stale-if-error).
//! Everything is loaded once at a time (single flight, or request coalescing): calls for the same
//! key share one load, in a process and, with a store that instances share, among all, so that no
//! crowd stampedes to the source.
//!
//! ```
//! use buttress::{Error, cache::Cache};
//! use std::{io, sync::Arc};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let items: Cache<Arc<str>> = Cache::builder("items").build()?;
//!
//! let load = || async { Ok::<Arc<str>, Error<io::Error>>("a lamp".into()) };
//! match items.run("7", load).await {
//!     // a lamp (items; fwd=uri-miss; stored)
//!     Ok(item) => println!("{} ({})", item.value, item.status),
//!     Err(Error::Rejected(rejected)) => println!("not asked, or given up: {rejected}"),
//!     Err(Error::Service(error)) => println!("not there, and nothing stale either: {error}"),
//! }
//!
//! // After a write, before it is acknowledged:
//! if let Err(pending) = items.invalidate("7").await {
//!     println!("committed, but others may read the old item for a while: {pending}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - No call that begins after an [invalidation](Cache::invalidate) returned `Ok` gets what was
//!   stored before it as fresh. A load that raced with it is not stored; a call that asked after
//!   that load had begun does not share it. [`store`] says how. (A tier of memory over a shared
//!   store has a bound of its own, which it states.)
//! - Nothing is fresh for longer than [`fresh`](Freshness::fresh) after it was outdated, even if no
//!   invalidation ever comes: ages count from the moment at which a load was allowed to begin.
//! - The store has a timeout, a breaker and a retry of its own. What goes wrong with it is counted,
//!   and otherwise a miss; never an error, and never slower than its timeout. Once its breaker is
//!   open nobody waits for it: whether it is back is found out in the background.
//! - A leader that is dropped hands its load over; one that panics, too. Errors are never stored.
//!
//! # Trade-offs
//! - **Invalidated entries** are gone, even if the source cannot be read afterwards
//!   ([`InvalidationMode::Drop`]); where an outdated answer is better than none, use
//!   [`InvalidationMode::Keep`].
//! - **A failed load** is shared by those who waited for it, as a
//!   [`LoadFailed`](crate::Kind::LoadFailed) rejection, since errors cannot be cloned. The next
//!   call loads again; put a breaker and a timeout below the cache.
//! - **A stale answer** that there is no better one for is given at once for a while after a load
//!   has failed, with one more load per key and pause (an eighth of a second, doubling to 1 s).
//!   After three failed loads in a row, of whatever keys, those loads are made in the background:
//!   nobody waits for a source that hangs, if there is something stale to answer with.
//! - A miss costs some allocations; a hit in memory none but those of the answer's `Clone`.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | name | none | it is yours |
//! | [`freshness`](CacheBuilder::freshness) | fresh for 60 s, then 1 hour better than an error | stale answers while a new one is looked for (`stale_while_revalidate`) are off: not every application may give them |
//! | [`lease`](CacheBuilder::lease) | 5 s | longer than a load takes; a leader that is gone without a word holds up nobody for longer |
//! | [`jitter`](CacheBuilder::jitter) | 0.1 | what was loaded together does not go stale together |
//! | [`early_refresh`](CacheBuilder::early_refresh) | 1 | the β of the paper that the rule is from (Vattani et al., VLDB 2015) |
//! | [`store`](CacheBuilder::store) | a [`MemoryStore`] of 10,000 answers | |
//! | [`store_timeout`](CacheBuilder::store_timeout) | 100 ms, and no more than half of the time until a call's deadline | a hundred times what a healthy store on the same network takes |
//! | [`store_attempts`](CacheBuilder::store_attempts) | 2 | a second one finds the connection that replaced a broken one |
//! | [`seed`](CacheBuilder::seed) | random | |
//! | [`Lookup::classify`], [`CacheLayer::classify`] | every `Err` is a failure | |
//! | invalidation | [`InvalidationMode::Drop`] | never wrong, where an outdated answer may be |
//!
//! # Metrics
//!
//! With the `registry` feature a cache's [`Snapshot`] becomes these, each with the label `policy`:
//!
//! | metric | field | what |
//! |---|---|---|
//! | `buttress_cache_hits_total{served="fresh"}` | [`fresh_total`](Snapshot::fresh_total) | calls answered with a fresh entry |
//! | `buttress_cache_hits_total{served="revalidating"}` | [`revalidating_total`](Snapshot::revalidating_total) | calls answered with a stale one while a new one was looked for |
//! | `buttress_cache_hits_total{served="if_error"}` | [`if_error_total`](Snapshot::if_error_total) | calls answered with a stale one because the load failed |
//! | `buttress_cache_collapsed_total` | [`collapsed_total`](Snapshot::collapsed_total) | calls that shared another call's load |
//! | `buttress_cache_bypassed_total` | [`bypassed_total`](Snapshot::bypassed_total) | calls whose requests are not for a cache |
//! | `buttress_cache_loads_total` | [`loads_total`](Snapshot::loads_total) | loads |
//! | `buttress_cache_load_failures_total` | [`load_failures_total`](Snapshot::load_failures_total) | loads that failed |
//! | `buttress_cache_refreshes_total` | [`refreshes_total`](Snapshot::refreshes_total) | loads in the background |
//! | `buttress_cache_stored_total` | [`stored_total`](Snapshot::stored_total) | answers that were stored |
//! | `buttress_cache_not_stored_total` | [`not_stored_total`](Snapshot::not_stored_total) | answers that were not |
//! | `buttress_cache_store_failures_total` | [`store_failures_total`](Snapshot::store_failures_total) | questions to the store without an answer |
//! | `buttress_cache_store_up` | [`store_up`](Snapshot::store_up) | 1 while the breaker around the store is closed, else 0 |
//! | `buttress_cache_invalidations_total` | [`invalidations_total`](Snapshot::invalidations_total) | invalidations |
//! | `buttress_cache_invalidations_pending_total` | [`invalidations_pending_total`](Snapshot::invalidations_pending_total) | invalidations that did not reach the store |
//! | `buttress_cache_in_flight` | [`in_flight`](Snapshot::in_flight) | loads under way that others may share |

mod adapter;
mod background;
mod codec;
mod config;
mod core;
mod counters;
mod early;
mod failure_memory;
mod freshness;
mod hot;
mod key;
mod layer;
mod lease_guard;
mod leases;
mod load;
mod loaded;
mod lookup;
mod memory;
mod memory_entry;
mod prehashed;
mod run_load;
mod service;
mod single_flight;
mod snapshot;
mod status;
pub mod store;
mod store_client;
mod sync;
mod tags;
#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Disposition, KeyBuf};
pub use codec::Codec;
#[cfg(feature = "redis")]
pub use codec::{Binary, Json};
pub use config::{CacheBuilder, WithStore};
pub use freshness::{Entry, Freshness, FreshnessState, Hit};
pub use key::{EntryKey, KeyRef};
pub use layer::{CacheLayer, ValueAdapter};
pub use leases::MemoryLease;
pub use loaded::{Failure, Loaded};
pub use lookup::{ConfiguredFreshness, FreshnessRule, Lookup};
pub use memory::MemoryStore;
pub use service::{CacheFuture, CacheService};
pub use snapshot::Snapshot;
pub use status::{CacheStatus, Cached, LoadReason, Served};
pub use store::{AcquireOptions, Acquired, Fill, InvalidationMode, Store, StoreError};

use crate::{Name, error::FromRejected, shared::Shared};
use core::Core;
use std::{fmt, future::Future};

/// A cache of answers of type `V`, kept in a [`Store`].
///
/// # Clone
///
/// A clone is the same cache.
#[doc(alias = "cache_aside")]
#[doc(alias = "memoize")]
#[doc(alias = "single_flight")]
#[doc(alias = "request_coalescing")]
#[doc(alias = "stampede")]
#[doc(alias = "dogpile")]
pub struct Cache<V, St = MemoryStore<V>>(Shared<Core<V, St>>)
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>;

impl Cache<()> {
    /// Begins the settings of a cache, which fit any type of answer: it is chosen by
    /// [`build`](CacheBuilder::build).
    pub fn builder(name: impl Into<Name>) -> CacheBuilder {
        CacheBuilder::new(name.into())
    }
}

impl<V, St> Cache<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// Returns the cache's name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns the store, where the cache keeps its answers.
    pub fn store(&self) -> &St {
        &self.0.store_client.store
    }

    /// Returns the answer that is stored, or loads it, or returns a stale one if that fails. Every
    /// `Err` of the load is a failure; [`lookup`](Self::lookup) can say more.
    ///
    /// The load may go on after this has answered (to replace a stale answer), so it owns what it
    /// uses.
    ///
    /// # Errors
    /// What the load failed with, if there is nothing stale; for a call that shared another's load
    /// a [`Rejected`](crate::Rejected): the one that the load failed with, or
    /// [`LoadFailed`](crate::Kind::LoadFailed).
    #[doc(alias = "get_or_insert_with")]
    #[doc(alias = "get_with")]
    #[doc(alias = "try_get_with")]
    pub async fn run<'k, E, F, Fut>(
        &self,
        key: impl Into<KeyRef<'k>>,
        load: F,
    ) -> Result<Cached<V>, E>
    where
        E: FromRejected + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Lookup::new(self, key.into()).run(load).await
    }

    /// Begins a question that says more than [`run`](Self::run): what counts as a failure, and
    /// which answers are kept for how long.
    ///
    /// ```
    /// use buttress::{Error, cache::{Cache, Freshness, KeyRef}};
    /// use std::{io, time::Duration};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let users: Cache<Option<u32>> = Cache::builder("users").build()?;
    /// let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    ///
    /// let found = users
    ///     .lookup(KeyRef::new("ada").tagged("users"))
    ///     // That there is no such user is kept for a shorter time.
    ///     .freshness(move |user: &Option<u32>| {
    ///         Some(Freshness::fresh(if user.is_some() { minute } else { second }))
    ///     })
    ///     .run(|| async { Ok::<_, Error<io::Error>>(None) })
    ///     .await?;
    /// assert_eq!(found.value, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lookup<'a>(&'a self, key: impl Into<KeyRef<'a>>) -> Lookup<'a, V, St> {
        Lookup::new(self, key.into())
    }

    /// Removes an entry. To be called after a write was committed, and before it is acknowledged:
    /// no call that begins after this returned `Ok` gets the old answer as fresh.
    ///
    /// # Errors
    /// If the store could not be told: then old answers may be found for as long as they are
    /// [fresh](Freshness::fresh), unless the invalidation is [repeated](InvalidationPending).
    #[doc(alias = "delete")]
    #[doc(alias = "evict")]
    #[doc(alias = "remove")]
    #[doc(alias = "purge")]
    pub async fn invalidate<'k>(
        &self,
        key: impl Into<KeyRef<'k>>,
    ) -> Result<(), InvalidationPending> {
        self.invalidate_with(key, InvalidationMode::Drop).await
    }

    /// Invalidates an entry, and says whether the old answer is removed or kept to be better than
    /// an error.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_with<'k>(
        &self,
        key: impl Into<KeyRef<'k>>,
        mode: InvalidationMode,
    ) -> Result<(), InvalidationPending> {
        self.invalidate_entry(key.into().to_owned(), mode).await
    }

    pub(crate) async fn invalidate_entry(
        &self,
        key: EntryKey,
        mode: InvalidationMode,
    ) -> Result<(), InvalidationPending> {
        self.invalidated(self.0.store_client.invalidate(&key, mode).await)
    }

    /// Removes all entries with a tag: a list in all its pages and orders, say. It costs as much as
    /// removing one.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "surrogate_key")]
    #[doc(alias = "cache_tag")]
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), InvalidationPending> {
        self.invalidate_tag_with(tag, InvalidationMode::Drop).await
    }

    /// Invalidates all entries with a tag, and says whether the old answers are removed or kept to
    /// be better than an error.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_tag_with(
        &self,
        tag: &str,
        mode: InvalidationMode,
    ) -> Result<(), InvalidationPending> {
        self.invalidated(self.0.store_client.invalidate_tag(tag, mode).await)
    }

    fn invalidated(&self, told: Result<(), StoreError>) -> Result<(), InvalidationPending> {
        self.0.counters.add(|c| &c.invalidations);
        told.map_err(|reason| {
            self.0.counters.add(|c| &c.store_failures);
            self.0.counters.add(|c| &c.invalidations_pending);
            InvalidationPending(reason)
        })
    }

    /// Returns a tower layer over services whose responses can be cloned. `key` says what
    /// identifies the answer to a request, and `None` that it is not for a cache.
    ///
    /// For HTTP there is `http_layer` (feature `http`), which knows methods, status codes and
    /// `Cache-Control`.
    pub fn layer<K>(&self, key: K) -> CacheLayer<V, St, ValueAdapter<K>> {
        CacheLayer::new(self.0.clone(), ValueAdapter::new(key, self.0.freshness))
    }

    /// Returns a tower layer for requests and responses of some kind, which the [`Adapter`] knows.
    pub fn layer_with<A>(&self, adapter: A) -> CacheLayer<V, St, A> {
        CacheLayer::new(self.0.clone(), adapter)
    }

    /// Returns for how long answers are good, unless they say otherwise.
    pub fn freshness(&self) -> Freshness {
        self.0.freshness
    }

    /// Returns what the cache has done so far, and whether its store answers.
    pub fn snapshot(&self) -> Snapshot {
        let (core, counters) = (&self.0, &self.0.counters);
        Snapshot {
            name: core.name,
            fresh_total: counters.sum(|c| &c.fresh),
            revalidating_total: counters.sum(|c| &c.revalidating),
            if_error_total: counters.sum(|c| &c.if_error),
            collapsed_total: counters.sum(|c| &c.collapsed),
            bypassed_total: counters.sum(|c| &c.bypassed),
            loads_total: counters.sum(|c| &c.loads),
            load_failures_total: counters.sum(|c| &c.load_failures),
            refreshes_total: counters.sum(|c| &c.refreshes),
            stored_total: counters.sum(|c| &c.stored),
            not_stored_total: counters.sum(|c| &c.not_stored),
            store_failures_total: counters.sum(|c| &c.store_failures),
            store_up: !core.store_client.is_open(),
            invalidations_total: counters.sum(|c| &c.invalidations),
            invalidations_pending_total: counters.sum(|c| &c.invalidations_pending),
            in_flight: core.single_flight.len() as u64,
        }
    }
}

impl<V, St> Clone for Cache<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V, St> fmt::Debug for Cache<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error of an invalidation that the store could not be told of, after the write was committed:
/// until it is told, or until they are not fresh any more, old answers may be found.
///
/// An invalidation can be repeated any number of times. So write down what is to be invalidated in
/// the same transaction as the write, and let a task repeat it until it returns `Ok`.
#[derive(Debug, thiserror::Error)]
#[error("the invalidation is pending: {0}")]
pub struct InvalidationPending(#[source] StoreError);
