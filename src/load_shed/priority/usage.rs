//! How much each user asks for, in fixed memory.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005) of the present and of the former period: a
//! flood of new users cannot grow it, it can only make others look busier than they are, and that
//! in all four rows at once with a chance that does not matter.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const ROWS: usize = 4;
const COLUMNS: usize = 1024;

/// A sketch of how many requests each user has made in this period and in the last.
#[derive(Debug)]
pub(super) struct Usage {
    /// `[period % 2][row][column]`
    counts: Box<[AtomicU32]>,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            counts: (0..2 * ROWS * COLUMNS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Counts one request of this user, and returns how many there have been in the time of one
    /// period, of which this one is over to this part.
    pub(super) fn count(&self, user: u64, period: u32, over: f64) -> f64 {
        let (mut now, mut before) = (u32::MAX, u32::MAX);
        for row in 0..ROWS {
            let column = (user >> (16 * row)) as usize % COLUMNS;
            let at = |period: u32| (period as usize % 2 * ROWS + row) * COLUMNS + column;
            now = now.min(
                self.counts[at(period)]
                    .fetch_add(1, Relaxed)
                    .saturating_add(1),
            );
            before = before.min(self.counts[at(period.wrapping_add(1))].load(Relaxed));
        }
        f64::from(now) + f64::from(before) * (1.0 - over).clamp(0.0, 1.0)
    }

    /// Makes room for this period: what is there is of the last but one.
    pub(super) fn begin(&self, period: u32) {
        let half = ROWS * COLUMNS;
        let from = period as usize % 2 * half;
        for count in &self.counts[from..from + half] {
            count.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_remembered_for_one_period_and_strangers_do_not_matter() {
        let usage = Usage::new();
        let user = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for stranger in 0..1_000 {
            usage.count(user(stranger), 0, 0.0);
        }
        let counts: Vec<_> = (0..100).map(|_| usage.count(user(5_000), 0, 0.0)).collect();
        assert!((100.0..103.0).contains(&counts[99]), "{counts:?}");
        usage.begin(1);
        let half = usage.count(user(5_000), 1, 0.5);
        assert!((51.0..53.0).contains(&half), "{half}");
        usage.begin(2);
        assert_eq!(usage.count(user(5_000), 2, 0.0), 2.0);
    }
}
