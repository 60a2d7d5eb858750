//! Where answers are kept, and the protocol by which they get there.
//!
//! An answer is only as good as the promise that no read after an acknowledged invalidation
//! returns what was invalidated. What keeps it is the lease:
//!
//! 1. [`acquire`](Store::acquire) answers with the entry if it is fresh; else it grants a **lease**
//!    to one caller at a time, and tells the others that somebody is at it.
//! 2. Whoever has the lease reads the source, **after** it was granted, and offers the answer with
//!    [`fill`](Store::fill). The store takes it only if the lease still stands.
//! 3. [`invalidate`](Store::invalidate), called after the write to the source has been committed,
//!    removes the entry **and the lease**. So a load that began before the write is not stored.
//!
//! A lease is unique (a random token), so one that was removed cannot come back under another
//! holder's name; there is no generation counter, which would be wrong after it was lost. Ages
//! count from the moment the lease was granted.

use super::{
    freshness::{Entry, Freshness, Hit},
    key::{EntryKey, KeyRef},
};
use crate::{clock::Now, error::Rejected};
use std::{error::Error, future::Future, time::Duration};

/// What becomes of an entry that is invalidated.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum InvalidationMode {
    /// It is removed, even if the source cannot be read afterwards: right for permissions,
    /// balances, deletions.
    #[default]
    Drop,
    /// It is never the answer again, but for the rest of its time better than an error: right for
    /// catalogues and profiles.
    #[doc(alias = "soft_purge")]
    Keep,
}

/// What a caller may do, as a store says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Acquired<V, L> {
    /// Answer with this entry.
    Fresh(Entry<V>),
    /// Load, and fill with this lease.
    Leased {
        /// What proves the right to fill.
        lease: L,
        /// What is stored, if that is stale and not expired.
        known: Option<Entry<V>>,
    },
    /// Wait: somebody else is loading.
    Busy {
        /// For how long the other one's lease lasts, at most.
        lasts: Duration,
        /// What is stored, if that is stale and not expired.
        known: Option<Entry<V>>,
    },
}

/// How to ask a store for an entry.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AcquireOptions {
    /// How long the lease lasts: longer than a load takes.
    pub lease: Duration,
    /// Whether to grant a lease even if the entry is fresh, to refresh it before its time.
    pub early: bool,
}

impl AcquireOptions {
    /// Asks for a lease of this length if the entry is not fresh.
    pub const fn new(lease: Duration) -> Self {
        let early = false;
        Self { lease, early }
    }

    /// Asks for a lease even if the entry is fresh.
    #[must_use]
    pub const fn early(self) -> Self {
        let early = true;
        Self { early, ..self }
    }
}

/// An answer to store, and what is to be known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fill<V> {
    /// The answer.
    pub value: V,
    /// For how long it is good for what.
    pub freshness: Freshness,
    /// How long its load took.
    pub cost: Duration,
}

impl<V> Fill<V> {
    /// Offers this answer, good for so long, after a load of this length.
    pub const fn new(value: V, freshness: Freshness, cost: Duration) -> Self {
        Self {
            value,
            freshness,
            cost,
        }
    }
}

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A policy around the store refused, or gave up.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The store is not there, or not well.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// An answer cannot be written or read as bytes.
    #[error("an answer cannot be stored as bytes: {0}")]
    Codec(#[source] Box<dyn Error + Send + Sync>),
}

/// Where answers of type `V` are kept.
///
/// The [module](self) says what the methods must keep to. A store need not be reliable: the cache
/// takes every error for a miss. It must not be wrong.
#[doc(alias = "backend")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for answers of type `{V}`",
    label = "not a store",
    note = "stores are `MemoryStore`, `RedisStore` and `Tiered`; their builders become one with `.connect()?` and `.build()?`"
)]
pub trait Store<V>: Send + Sync + 'static {
    /// What proves that a caller may fill an entry.
    type Lease: Send + Sync + 'static;

    /// Returns the answer if it is at hand and fresh, without waiting or allocating.
    fn peek(&self, key: KeyRef<'_>, now: &Now) -> Option<Hit<V>>;

    /// Asks for the entry, or for a lease on it.
    fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> impl Future<Output = Result<Acquired<V, Self::Lease>, StoreError>> + Send;

    /// Offers an answer, and ends the lease. Returns `false` if the lease did not stand any more:
    /// then nothing was stored.
    fn fill(
        &self,
        key: &EntryKey,
        lease: &Self::Lease,
        fill: Fill<V>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives a lease back, because there is no answer to store.
    fn release(
        &self,
        key: &EntryKey,
        lease: Self::Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives back the lease of a call that was dropped, if that takes no waiting. If it does, the
    /// lease is returned as an error, and [`release`](Self::release) is tried in the background.
    ///
    /// # Errors
    /// The lease.
    fn release_now(&self, _key: &EntryKey, lease: Self::Lease) -> Result<(), Self::Lease> {
        Err(lease)
    }

    /// Returns what is stored now, fresh or stale, without a lease. Asked when a load has failed.
    fn look(
        &self,
        key: &EntryKey,
    ) -> impl Future<Output = Result<Option<Entry<V>>, StoreError>> + Send;

    /// Removes what is stored, and every lease on it.
    ///
    /// When this returns `Ok`, no caller that asks from now on gets what was stored before as
    /// fresh, from any instance that shares the store (but for the bound that a memory tier
    /// states).
    fn invalidate(
        &self,
        key: &EntryKey,
        mode: InvalidationMode,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes what is stored under this tag, and every lease on it:
    /// [`invalidate`](Self::invalidate) of all its entries.
    fn invalidate_tag(
        &self,
        tag: &str,
        mode: InvalidationMode,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
