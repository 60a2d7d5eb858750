//! What a cache has done.

use crate::shared::{Padded, lanes, slot};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one thread slot.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) fresh: AtomicU64,
    pub(super) revalidating: AtomicU64,
    pub(super) if_error: AtomicU64,
    pub(super) collapsed: AtomicU64,
    pub(super) bypassed: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) load_failures: AtomicU64,
    pub(super) refreshes: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) not_stored: AtomicU64,
    pub(super) store_failures: AtomicU64,
    pub(super) invalidations: AtomicU64,
    pub(super) pending: AtomicU64,
}

/// A line of counters per thread slot: a hit writes no word that another thread does.
#[derive(Debug)]
pub(super) struct Tally(Box<[Padded<Counters>]>);

impl Default for Tally {
    fn default() -> Self {
        Self((0..lanes()).map(|_| Padded::default()).collect())
    }
}

impl Tally {
    #[inline]
    pub(super) fn add(&self, which: impl Fn(&Counters) -> &AtomicU64) {
        which(&self.0[slot() & (self.0.len() - 1)].0).fetch_add(1, Relaxed);
    }

    pub(super) fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.0.iter().map(|c| of(&c.0).load(Relaxed)).sum()
    }
}

/// A [`Cache`](super::Cache) at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: &'static str,
    /// Calls answered with a fresh entry, without a load.
    pub fresh: u64,
    /// Calls answered with a stale entry while a new one was looked for.
    pub revalidating: u64,
    /// Calls answered with a stale entry because the load failed.
    pub if_error: u64,
    /// Calls that shared another call's load. (Counted above or under `loads` as well.)
    pub collapsed: u64,
    /// Requests that are not for a cache.
    pub bypassed: u64,
    /// Loads, those in the background included.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Loads in the background: of what was stale, or soon would be.
    pub refreshes: u64,
    /// Answers that were stored.
    pub stored: u64,
    /// Answers that the store refused, because they had been invalidated meanwhile, or could not
    /// take; and those of calls that loaded on their own.
    pub not_stored: u64,
    /// Questions to the store that it did not answer, or not in time, or that were not asked because
    /// its breaker was open.
    pub store_failures: u64,
    /// Whether the store's breaker is closed, which it is while the store answers.
    pub store_up: bool,
    /// Invalidations of keys and tags.
    pub invalidations: u64,
    /// Those of them that did not reach the store.
    pub pending: u64,
    /// Loads under way that others may share.
    pub in_flight: u64,
}
