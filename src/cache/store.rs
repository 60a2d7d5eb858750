//! Where answers are kept, and the protocol by which they get there.
//!
//! A store promises that no read after an acknowledged invalidation returns what was invalidated.
//! It keeps this promise by leases:
//!
//! 1. [`acquire`](Store::acquire) returns the entry if it is fresh. Otherwise it grants a **lease**
//!    to one caller at a time, and tells the others that an answer is being loaded.
//! 2. The holder of the lease reads the source, **after** the lease was granted, and offers the
//!    answer with [`fill`](Store::fill). The store takes it only if the lease still stands.
//! 3. [`invalidate`](Store::invalidate), called after the write to the source has been committed,
//!    removes the entry **and the lease**. So a load that began before the write is not stored.
//!
//! A lease is a random token, so a lease that was removed is never mistaken for a later one. There
//! is no generation counter, which would be wrong after it was lost. Ages count from the moment at
//! which the lease was granted.

use super::{
    freshness::{Entry, Freshness, Hit},
    key::{EntryKey, KeyRef},
};
use crate::{clock::Now, error::Rejected};
use std::{error::Error, future::Future, time::Duration};

/// What becomes of an entry when it is invalidated.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum InvalidationMode {
    /// It is removed, even if the source cannot be read afterwards. Right for permissions, balances
    /// and deletions. The default.
    #[default]
    Drop,
    /// It is never fresh again, but for the rest of its time it is returned if a load fails. Right
    /// for catalogues and profiles.
    #[doc(alias = "soft_purge")]
    Keep,
}

/// A store's answer to a caller that asks for an entry: what it may do.
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

/// The terms on which a store is asked for an entry.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AcquireOptions {
    /// How long the lease lasts: longer than a load takes.
    pub lease: Duration,
    /// Whether to grant a lease even if the entry is fresh, to refresh it before its time.
    pub early: bool,
}

impl AcquireOptions {
    /// Returns options that ask for a lease of this length if the entry is not fresh.
    pub const fn new(lease: Duration) -> Self {
        let early = false;
        Self { lease, early }
    }

    /// Returns options that ask for a lease even if the entry is fresh.
    #[must_use]
    pub const fn early(self) -> Self {
        let early = true;
        Self { early, ..self }
    }
}

/// An answer to store, with its freshness and the cost of its load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fill<V> {
    /// The answer.
    pub value: V,
    /// How long it is fresh, and how long it may be used when stale.
    pub freshness: Freshness,
    /// How long its load took.
    pub cost: Duration,
}

impl<V> Fill<V> {
    /// Creates the offer of an answer with this freshness, after a load that took this long.
    pub const fn new(value: V, freshness: Freshness, cost: Duration) -> Self {
        Self {
            value,
            freshness,
            cost,
        }
    }
}

/// The error of a store that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A policy around the store refused the request, or gave up on it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The store cannot be reached, or failed.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// An answer cannot be written or read as bytes.
    #[error("an answer cannot be stored as bytes: {0}")]
    Codec(#[source] Box<dyn Error + Send + Sync>),
}

/// A store of answers of type `V`.
///
/// The [module](self) describes the protocol that the methods must keep to. A store need not be
/// reliable, because the cache takes every error for a miss. But it must never be wrong.
#[doc(alias = "backend")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for answers of type `{V}`",
    label = "not a store",
    note = "stores are `MemoryStore`, `RedisStore` and `Tiered`; their builders become one with `.connect()?` and `.build()?`"
)]
pub trait Store<V>: Send + Sync + 'static {
    /// The lease, which proves that a caller may fill an entry.
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

    /// Gives back the lease of a call that was dropped, if that takes no waiting. Never does so by
    /// default.
    ///
    /// # Errors
    /// The lease, if giving it back takes waiting. Then [`release`](Self::release) is tried in the
    /// background.
    fn release_now(&self, _key: &EntryKey, lease: Self::Lease) -> Result<(), Self::Lease> {
        Err(lease)
    }

    /// Returns what is stored now, fresh or stale, without a lease. Called when a load has failed.
    fn look(
        &self,
        key: &EntryKey,
    ) -> impl Future<Output = Result<Option<Entry<V>>, StoreError>> + Send;

    /// Removes what is stored, and every lease on it.
    ///
    /// When this has returned `Ok`, no caller that asks later gets, as fresh, what was stored
    /// before. That holds for all instances that share the store, except for the bound that a
    /// memory tier states.
    fn invalidate(
        &self,
        key: &EntryKey,
        mode: InvalidationMode,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes all entries under this tag, and every lease on them, as
    /// [`invalidate`](Self::invalidate) does for one.
    fn invalidate_tag(
        &self,
        tag: &str,
        mode: InvalidationMode,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
