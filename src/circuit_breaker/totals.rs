//! What has happened since the breaker was made.

use crate::shared::{Padded, thread_index};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one thread slot.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) would_reject: AtomicU64,
}

/// A line of counters per thread slot: a rejection is as cheap on many threads as on one.
#[derive(Debug)]
pub(super) struct Totals(Box<[Padded<Counters>]>);

impl Totals {
    /// `shards` must be a power of two.
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Padded::default()).collect())
    }

    #[inline]
    pub(super) fn own(&self) -> &Counters {
        &self.0[thread_index() & (self.0.len() - 1)].0
    }

    pub(super) fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.0.iter().map(|c| of(&c.0).load(Relaxed)).sum()
    }
}
