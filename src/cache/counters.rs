//! What a cache counts, at a cost that a hit in memory can bear.

use crate::{
    shared::{Padded, stripes, thread_index},
    striped::Striped,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counts of one stripe.
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
    pub(super) invalidations_pending: AtomicU64,
}

/// Counts in stripes: a hit writes no word that another thread does.
#[derive(Debug)]
pub(super) struct CacheCounters {
    /// One for each of the first threads. What nobody else writes is counted with a load and a
    /// store, for a fifth of the time that [`StripedCounter`](crate::striped::StripedCounter)
    /// takes.
    own: Box<[Padded<StripeCounts>]>,
    /// For all other threads.
    shared: Striped<StripeCounts>,
}

impl Default for CacheCounters {
    fn default() -> Self {
        Self {
            own: (0..stripes()).map(|_| Padded::default()).collect(),
            shared: Striped::default(),
        }
    }
}

impl CacheCounters {
    #[inline]
    pub(super) fn add(&self, which: impl Fn(&StripeCounts) -> &AtomicU64) {
        let thread_index = thread_index();
        if let Some(own) = self.own.get(thread_index) {
            let count = which(&own.0);
            count.store(count.load(Relaxed) + 1, Relaxed);
        } else {
            which(self.shared.at(thread_index)).fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sum(&self, of: impl Fn(&StripeCounts) -> &AtomicU64) -> u64 {
        let own = self.own.iter().map(|counts| &counts.0);
        own.chain(self.shared.iter())
            .map(|counts| of(counts).load(Relaxed))
            .sum()
    }
}
