//! What a cache has done.

use crate::shared::{Padded, stripes, thread_index};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one thread slot.
#[derive(Debug, Default)]
pub(super) struct StripeCounts {
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

/// Lines of counters: a hit writes no word that another thread does.
#[derive(Debug)]
pub(super) struct CacheCounters {
    /// One for each of the first threads. What nobody else writes is counted with a load and a
    /// store, for a fifth of the time.
    own: Box<[Padded<StripeCounts>]>,
    /// For all other threads.
    shared: Box<[Padded<StripeCounts>]>,
}

impl Default for CacheCounters {
    fn default() -> Self {
        let counters = || (0..stripes()).map(|_| Padded::default()).collect();
        Self {
            own: counters(),
            shared: counters(),
        }
    }
}

impl CacheCounters {
    #[inline]
    pub(super) fn add(&self, which: impl Fn(&StripeCounts) -> &AtomicU64) {
        let slot = thread_index();
        if let Some(own) = self.own.get(slot) {
            let count = which(&own.0);
            count.store(count.load(Relaxed) + 1, Relaxed);
        } else {
            let shared = &self.shared[slot & (self.shared.len() - 1)];
            which(&shared.0).fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sum(&self, of: impl Fn(&StripeCounts) -> &AtomicU64) -> u64 {
        let all = self.own.iter().chain(&self.shared);
        all.map(|c| of(&c.0).load(Relaxed)).sum()
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
