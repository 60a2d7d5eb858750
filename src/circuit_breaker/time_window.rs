//! A sliding window in time, counted by every thread for itself.

use super::totals::Totals;
use crate::{clock::Time, sliding_window::SlidingWindow};
use std::sync::atomic::Ordering::Relaxed;

/// Calls that ended in the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct WindowCounts {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl WindowCounts {
    pub(super) fn calls(self) -> u64 {
        self.successes + self.failures
    }
}

/// The kinds of the window's counts: `failures:20 | successes:20`, ...
const ENDED: usize = 0;
/// ... and slow calls, of which most buckets have none.
const SLOW: usize = 1;

const FIELD: u64 = (1 << FIELD_BITS) - 1;
const FIELD_BITS: u32 = 20;
const SUCCESS: u64 = 1;
const FAILURE: u64 = 1 << FIELD_BITS;

#[derive(Debug)]
pub(super) struct TimeWindow(SlidingWindow<2>);

#[cfg(test)]
pub(super) const STRIPE_BYTES: usize = crate::sliding_window::stripe_bytes::<2>();

impl TimeWindow {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(window: u64, stripes: usize) -> Self {
        Self(SlidingWindow::new(window, stripes))
    }

    /// Counts a call that was not slow. True if it is the first one in this tenth: then earlier
    /// calls may have left the window, and the rates have to be looked at.
    #[inline]
    pub(super) fn add(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        let one = if failed { FAILURE } else { SUCCESS };
        let mut full = false;
        let before = self.0.count(ENDED, now, |count| {
            full = count & (one * FIELD) == one * FIELD;
            if full {
                halved(count) + one
            } else {
                count + one
            }
        });
        if full {
            self.halve(before.count, totals, now);
        } else if before.forgotten {
            fold(before.count, 0, totals);
        }
        before.forgotten
    }

    /// Counts a slow call.
    pub(super) fn add_slow(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        self.0.count(SLOW, now, |slow| slow + 1);
        self.add(failed, totals, now)
    }

    /// Follows a bucket that was about to overflow: half of all its counts keeps the rates.
    #[cold]
    fn halve(&self, was: u64, totals: &Totals, now: Time) {
        fold(was, halved(was), totals);
        self.0.count(SLOW, now, |slow| slow / 2);
    }

    /// Returns the calls that ended in the last ten tenths, the present one included.
    pub(super) fn counts(&self, now: Time) -> WindowCounts {
        let mut sum = WindowCounts::default();
        for [ended, slow] in self.0.counts(now) {
            sum.successes += successes_in(ended);
            sum.failures += failures_in(ended);
            sum.slow += slow;
        }
        sum
    }

    /// Returns the successes and failures that the totals do not hold yet.
    pub(super) fn unfolded(&self) -> (u64, u64) {
        self.0.all(ENDED).fold((0, 0), |(s, f), ended| {
            (s + successes_in(ended), f + failures_in(ended))
        })
    }

    /// Forgets all calls.
    pub(super) fn clear(&self, totals: &Totals) {
        self.0.clear(|[ended, _]| fold(ended, 0, totals));
    }
}

fn successes_in(ended: u64) -> u64 {
    ended & FIELD
}

fn failures_in(ended: u64) -> u64 {
    ended >> FIELD_BITS
}

#[cold]
fn halved(ended: u64) -> u64 {
    (failures_in(ended) / 2) << FIELD_BITS | (successes_in(ended) / 2)
}

/// Takes what a bucket no longer holds to the totals.
#[cold]
fn fold(was: u64, kept: u64, totals: &Totals) {
    let own = totals.own();
    own.successes
        .fetch_add(successes_in(was) - successes_in(kept), Relaxed);
    own.failures
        .fetch_add(failures_in(was) - failures_in(kept), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1_000;

    fn window() -> (TimeWindow, Totals) {
        (TimeWindow::new(WINDOW, 1), Totals::new(1))
    }

    fn counts(successes: u64, failures: u64, slow: u64) -> WindowCounts {
        WindowCounts {
            successes,
            failures,
            slow,
        }
    }

    #[test]
    fn the_first_call_of_a_tenth_is_told_that_calls_may_have_left() {
        let (window, totals) = window();
        assert!(window.add(true, &totals, Time(0)));
        assert!(!window.add_slow(false, &totals, Time(99)));
        assert!(window.add(false, &totals, Time(100)));
        assert_eq!(window.counts(Time(999)), counts(2, 1, 1));
        assert_eq!(window.counts(Time(1_000)), counts(1, 0, 0));
    }

    #[test]
    fn an_idle_gap_longer_than_the_window_empties_it_and_the_totals_keep_everything() {
        let (window, totals) = window();
        for t in 0..500 {
            window.add(t % 2 == 0, &totals, Time(t));
        }
        assert_eq!(window.counts(Time(u64::MAX)), counts(0, 0, 0));
        window.add(true, &totals, Time(7_000));
        assert_eq!(window.counts(Time(7_000)), counts(0, 1, 0));
        let (successes, failures) = window.unfolded();
        let folded = totals.sum(|c| &c.successes) + totals.sum(|c| &c.failures);
        assert_eq!(successes + failures + folded, 501);
    }

    #[test]
    fn a_full_bucket_keeps_the_rate_and_the_totals() {
        let (window, totals) = window();
        for _ in 0..1_000 {
            window.add_slow(true, &totals, Time(5));
        }
        for _ in 1_000..FIELD + 2 {
            window.add(false, &totals, Time(5));
        }
        let before = window.counts(Time(5));
        for _ in 0..1_000 {
            window.add(false, &totals, Time(5));
        }
        let after = window.counts(Time(5));
        assert_eq!(
            (after.failures, after.slow),
            (500, 500),
            "{before:?} {after:?}"
        );
        assert!(
            (after.successes as i64 - FIELD as i64 / 2).abs() < 1_001,
            "{after:?}"
        );
        window.clear(&totals);
        assert_eq!(window.counts(Time(5)), counts(0, 0, 0));
        assert_eq!(totals.sum(|c| &c.failures), 1_000);
        assert_eq!(totals.sum(|c| &c.successes), FIELD + 2);
    }
}
