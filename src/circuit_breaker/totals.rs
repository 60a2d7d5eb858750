//! What has happened since the breaker was made.

use crate::striped::Striped;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one stripe.
#[derive(Debug, Default)]
pub(super) struct CallTotals {
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) would_reject: AtomicU64,
}

/// All counters in one line per stripe: the breaker of a key has one stripe, and no line for each
/// counter.
#[derive(Debug)]
pub(super) struct Totals(Striped<CallTotals>);

impl Totals {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(stripes: usize) -> Self {
        Self(Striped::new(stripes, |_| CallTotals::default()))
    }

    #[inline]
    pub(super) fn own(&self) -> &CallTotals {
        self.0.own()
    }

    pub(super) fn sum(&self, of: impl Fn(&CallTotals) -> &AtomicU64) -> u64 {
        self.0.iter().map(|totals| of(totals).load(Relaxed)).sum()
    }
}
