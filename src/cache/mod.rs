//! A cache of answers, with stale ones to fall back on.
//!
//! This is cache-aside around any load. A **fresh** answer is returned at once. A **stale** one may
//! be returned while a new answer is loaded in the background (stale-while-revalidate), and is
//! returned if the load of a new answer fails (stale-if-error). Each key is loaded by one call at a
//! time (single flight, or request coalescing): calls for the same key share one load, within a
//! process and, if instances share a store, among all of them. So a crowd of calls does not
//! stampede to the source.
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
//! - No call that begins after an [invalidation](Cache::invalidate) has returned `Ok` gets, as
//!   fresh, what was stored before. A load that raced with the invalidation is not stored, and a
//!   call that asked after that load had begun does not share it. The [`store`] module says how.
//!   (With a tier of memory over a shared store, other instances may lag by a bound, which that
//!   tier states.)
//! - An answer is returned as fresh for no longer than [`fresh`](Freshness::fresh) after it was
//!   outdated, even if no invalidation ever comes: ages count from the moment at which a load was
//!   allowed to begin.
//! - The store has a timeout, a breaker and a retry of its own. If something goes wrong with it,
//!   that is counted, and the call goes on as after a miss. It is never an error, and never takes
//!   longer than the store's timeout. While the store's breaker is open no call waits for the
//!   store; probes in the background find out whether it is back.
//! - If a call is dropped, or panics, while it loads for others, one of these loads instead. Errors
//!   are never stored.
//!
//! # Trade-offs
//! - **Invalidated entries** are gone, even if the source cannot be read afterwards
//!   ([`InvalidationMode::Drop`]). Where an outdated answer is better than none, use
//!   [`InvalidationMode::Keep`].
//! - **A failed load** ends the calls that waited for it with a rejection of the kind
//!   [`LoadFailed`](crate::Kind::LoadFailed), since errors cannot be cloned. The next call loads
//!   again, so put a breaker and a timeout inside the cache.
//! - **After a failed load**, calls that find a stale answer get it at once for a while. Each pause
//!   (an eighth of a second, doubling to 1 s), one call per key tries to load again. After three
//!   failed loads in a row, of whatever keys, these loads are made in the background: no call waits
//!   for a source that hangs if there is a stale answer.
//! - A miss costs some allocations. A hit in memory costs none but those of the answer's `Clone`.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | name | none | it tells rejections and metrics of several caches apart |
//! | [`freshness`](CacheBuilder::freshness) | fresh for 60 s, then used for 1 hour if a load fails (`stale_if_error`) | `stale_while_revalidate` is off: not every application may return stale answers |
//! | [`lease`](CacheBuilder::lease) | 5 s | longer than a load takes; if the instance that loads is gone, nobody waits longer |
//! | [`jitter`](CacheBuilder::jitter) | 0.1 | answers that were loaded together do not go stale together |
//! | [`early_refresh`](CacheBuilder::early_refresh) | 1 | the β of the paper that the rule is from (Vattani et al., VLDB 2015) |
//! | [`store`](CacheBuilder::store) | a [`MemoryStore`] of 10,000 answers | |
//! | [`store_timeout`](CacheBuilder::store_timeout) | 100 ms, and no more than half of the time until a call's deadline | a hundred times what a healthy store on the same network takes |
//! | [`store_attempts`](CacheBuilder::store_attempts) | 2 | a second attempt finds the connection that replaced a broken one |
//! | [`seed`](CacheBuilder::seed) | random | |
//! | [`Lookup::classify`], [`CacheLayer::classify`] | every `Err` is a failure | |
//! | invalidation | [`InvalidationMode::Drop`] | never returns an outdated answer |
//!
//! # Metrics
//!
//! What a registered cache publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | field | |
//! |---|---|---|---|
//! | `buttress_cache_hits_total` (`served` is `fresh`) | counter | [`fresh_total`](Snapshot::fresh_total) | calls answered with a fresh entry, without a load |
//! | `buttress_cache_hits_total` (`served` is `revalidating`) | counter | [`revalidating_total`](Snapshot::revalidating_total) | calls answered with a stale entry while a new one was loaded |
//! | `buttress_cache_hits_total` (`served` is `if_error`) | counter | [`if_error_total`](Snapshot::if_error_total) | calls answered with a stale entry because the load failed |
//! | `buttress_cache_collapsed_total` | counter | [`collapsed_total`](Snapshot::collapsed_total) | calls that shared another call's load |
//! | `buttress_cache_bypassed_total` | counter | [`bypassed_total`](Snapshot::bypassed_total) | calls that bypassed the cache, because their requests are not for one |
//! | `buttress_cache_loads_total` | counter | [`loads_total`](Snapshot::loads_total) | loads, including those in the background |
//! | `buttress_cache_load_failures_total` | counter | [`load_failures_total`](Snapshot::load_failures_total) | loads that failed |
//! | `buttress_cache_refreshes_total` | counter | [`refreshes_total`](Snapshot::refreshes_total) | loads in the background |
//! | `buttress_cache_stored_total` | counter | [`stored_total`](Snapshot::stored_total) | answers that were stored |
//! | `buttress_cache_not_stored_total` | counter | [`not_stored_total`](Snapshot::not_stored_total) | answers that were not stored |
//! | `buttress_cache_store_failures_total` | counter | [`store_failures_total`](Snapshot::store_failures_total) | requests to the store that it did not answer |
//! | `buttress_cache_store_up` | gauge | [`store_up`](Snapshot::store_up) | 1 while the breaker around the store is closed, else 0 |
//! | `buttress_cache_invalidations_total` | counter | [`invalidations_total`](Snapshot::invalidations_total) | invalidations of keys and tags |
//! | `buttress_cache_invalidations_pending_total` | counter | [`invalidations_pending_total`](Snapshot::invalidations_pending_total) | invalidations that did not reach the store |
//! | `buttress_cache_in_flight` | gauge | [`in_flight`](Snapshot::in_flight) | loads under way that others may share |

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
/// The [module](self) describes what it promises, with an example and the defaults.
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
    /// Returns the settings of a cache, all of them at their [defaults](self#defaults). The type of
    /// its answers is chosen later, by [`build`](CacheBuilder::build).
    pub fn builder(name: impl Into<Name>) -> CacheBuilder {
        CacheBuilder::new(name.into())
    }
}

impl<V, St> Cache<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// Returns the name of the cache, which rejections carry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns the store in which the cache keeps its answers.
    pub fn store(&self) -> &St {
        &self.0.store_client.store
    }

    /// Returns the fresh answer from the store, or else loads it; if the load fails, returns a
    /// stale answer if there is one.
    ///
    /// Every `Err` of the load is a failure; use [`lookup`](Self::lookup) to say otherwise. The
    /// load may go on in the background after this has returned a stale answer, so it must own what
    /// it uses.
    ///
    /// The call waits for each of its questions to the store no longer than the store's
    /// [timeout](CacheBuilder::store_timeout). It asks once if an answer is stored, twice if it
    /// loads one, and three times if its load fails. For the loads of other calls it waits no
    /// longer than the [lease](CacheBuilder::lease), in all; if they are other instances', give or
    /// take the 63 ms after which it asks the store again. Its own load may take as long as it
    /// likes: put a timeout inside.
    ///
    /// # Errors
    /// What the load failed with, if there is no stale answer. A call that shared another call's
    /// load gets a [`Rejected`](crate::Rejected): the one that the load failed with, or one of the
    /// kind [`LoadFailed`](crate::Kind::LoadFailed).
    #[doc(alias = "get_or_insert_with")]
    #[doc(alias = "get_with")]
    #[doc(alias = "try_get_with")]
    pub fn run<'k, E, F, Fut>(
        &self,
        key: impl Into<KeyRef<'k>>,
        load: F,
    ) -> impl Future<Output = Result<Cached<V>, E>> + Send
    where
        E: FromRejected + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let key = key.into();
        async move { Lookup::new(self, key).run(load).await }
    }

    /// Begins a lookup with more settings than [`run`](Self::run): what counts as a failure, and
    /// how long which answers are fresh.
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
    ///     // The answer that there is no such user is kept for a shorter time.
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

    /// Removes an entry.
    ///
    /// Call it after a write has been committed, and before the write is acknowledged: no call that
    /// begins after this has returned `Ok` gets the old answer as fresh.
    /// It waits for the store no longer than its [timeout](CacheBuilder::store_timeout).
    ///
    /// # Errors
    /// If the store could not be told. Then old answers may be returned for as long as they are
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

    /// Invalidates an entry, and removes the old answer or keeps it for when a load fails, as
    /// `mode` says.
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

    /// Removes all entries with a tag, such as a list in all its pages and orders. It costs no more
    /// than removing one entry.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate).
    #[doc(alias = "surrogate_key")]
    #[doc(alias = "cache_tag")]
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), InvalidationPending> {
        self.invalidate_tag_with(tag, InvalidationMode::Drop).await
    }

    /// Invalidates all entries with a tag, and removes the old answers or keeps them for when a
    /// load fails, as `mode` says.
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

    /// Returns a tower layer over services whose responses can be cloned. The function `key`
    /// returns what identifies the answer to a request, or `None` for a request that is to bypass
    /// the cache.
    ///
    /// For HTTP there is `http_layer` (feature `http`), which understands methods, status codes and
    /// `Cache-Control`.
    pub fn layer<K>(&self, key: K) -> CacheLayer<V, St, ValueAdapter<K>> {
        CacheLayer::new(self.0.clone(), ValueAdapter::new(key, self.0.freshness))
    }

    /// Returns a tower layer for the kind of requests and responses that this [`Adapter`] is for.
    pub fn layer_with<A>(&self, adapter: A) -> CacheLayer<V, St, A> {
        CacheLayer::new(self.0.clone(), adapter)
    }

    /// Returns how long answers are fresh, and how long they may be used when stale, unless they
    /// have a [freshness of their own](Lookup::freshness).
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

/// The error of an invalidation that the store could not be told of. Old answers may be returned
/// until the store is told, or until they are not fresh any more.
///
/// An invalidation can be repeated any number of times. So record what is to be invalidated in the
/// same transaction as the write, and let a task repeat it until it returns `Ok`.
#[derive(Debug, thiserror::Error)]
#[error("the invalidation is pending: {0}")]
pub struct InvalidationPending(#[source] StoreError);
