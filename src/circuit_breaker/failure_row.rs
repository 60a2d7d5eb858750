//! Failures in a row.

use crate::clock::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Failures in a row, and [`WATCH`]. Nearly always zero, and then never written.
#[derive(Debug, Default)]
pub(super) struct FailureRow {
    pub(super) count: AtomicU64,
    /// When the last failure was. Written by failures only.
    last: AtomicU64,
}

/// In the word of the failures in a row: calls are too few, so that a success may complete the
/// minimum, or change how far the window reaches back, and a rate is over its threshold then.
pub(super) const WATCH: u64 = 1 << 63;

impl FailureRow {
    /// Counts a failure, and returns how many there are in a row now. One that comes more than so
    /// many nanoseconds after the last begins a new row.
    pub(super) fn add(&self, within: u64, now: Time) -> u64 {
        let last = self.last.swap(now.0, Relaxed);
        if now.0.saturating_sub(last) > within {
            self.count.fetch_and(WATCH, Relaxed);
        }
        (self.count.fetch_add(1, Relaxed) + 1) & !WATCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_follows_the_last_one_if_it_comes_soon_enough() {
        let row = FailureRow::default();
        row.count.store(WATCH, Relaxed);
        let times = [1_000, 1_010, 1_020, 1_031, 1_030, 1_040, u64::MAX];
        let rows = times.map(|at| row.add(10, Time(at)));
        assert_eq!(rows, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(row.count.load(Relaxed), WATCH + 1);
    }
}
