//! A sliding window in time, counted by every thread for itself.

use super::totals::Totals;
use crate::{
    clock::Time,
    sliding_window::{PreviousCount, SlidingWindow},
};
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

    fn add(&mut self, other: Self) {
        self.successes += other.successes;
        self.failures += other.failures;
        self.slow += other.slow;
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

/// How far it reaches back for its minimum of calls, in windows.
pub(super) const REACH: usize = 10;

/// The tenths of a window.
const TENTHS: u64 = 10;

/// The calls of the window, and what is left of earlier ones: while calls are few, rates are taken
/// over as many windows as it takes to have the minimum.
///
/// # Invariants
/// 1. A call is in a bucket of `recent` until that is used for a later tenth, and then in that of
///    its window in `earlier`, until it is older than `REACH` windows.
#[derive(Debug)]
pub(super) struct TimeWindow {
    recent: SlidingWindow<2>,
    /// What has left its bucket. Written once in a tenth by each stripe.
    earlier: SlidingWindow<2>,
}

/// What a breaker with one stripe takes.
#[cfg(test)]
pub(super) const BYTES: usize = 2 * crate::sliding_window::stripe_bytes::<2>();

impl TimeWindow {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(window: u64, stripes: usize) -> Self {
        let recent = SlidingWindow::new(window, stripes);
        // A tenth of it is a window.
        let reach = recent.longest().saturating_mul(REACH as u64);
        Self {
            recent,
            earlier: SlidingWindow::new(reach, 1),
        }
    }

    /// Counts a success that was not slow, as [`add`](Self::add) does.
    #[inline(always)]
    pub(super) fn add_success(&self, totals: &Totals, now: Time) -> bool {
        self.add_inline(false, totals, now)
    }

    /// Counts a call that was not slow. True if it is the first one in this tenth: then earlier
    /// calls may have left the window, and the rates have to be looked at.
    pub(super) fn add(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        self.add_inline(failed, totals, now)
    }

    #[inline(always)]
    fn add_inline(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        let one = if failed { FAILURE } else { SUCCESS };
        let mut full = false;
        let before = self.recent.count(ENDED, now, |count| {
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
            self.fold_forgotten(before, totals, now);
        }
        before.forgotten
    }

    #[cold]
    #[inline(never)]
    fn fold_forgotten(&self, left: PreviousCount, totals: &Totals, now: Time) {
        fold(left.count, 0, totals);
        self.keep(ENDED, left, now);
    }

    /// Keeps what has left its bucket with those of its window.
    #[cold]
    fn keep(&self, kind: usize, left: PreviousCount, now: Time) {
        let Some(age) = left.age().filter(|age| *age < REACH as u64 * TENTHS) else {
            return;
        };
        if left.count == 0 {
            return;
        }
        let then = Time(
            now.0
                .saturating_sub(age.saturating_mul(self.recent.tenth())),
        );
        self.earlier.count(kind, then, |kept| match kind {
            ENDED => sum_of_ended(kept, left.count),
            _ => (kept + left.count).min(FIELD),
        });
    }

    /// Counts a slow call.
    pub(super) fn add_slow(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        let before = self.recent.count(SLOW, now, |slow| slow + 1);
        if before.forgotten {
            self.keep(SLOW, before, now);
        }
        self.add(failed, totals, now)
    }

    /// Follows a bucket that was about to overflow: half of all its counts keeps the rates.
    #[cold]
    fn halve(&self, was: u64, totals: &Totals, now: Time) {
        fold(was, halved(was), totals);
        self.recent.count(SLOW, now, |slow| slow / 2);
    }

    /// Returns the calls that ended in the last ten tenths, the present one included.
    pub(super) fn counts(&self, now: Time) -> WindowCounts {
        let mut sum = WindowCounts::default();
        for [ended, slow] in self.recent.counts(now) {
            sum.add(counts_of(ENDED, ended));
            sum.add(counts_of(SLOW, slow));
        }
        sum
    }

    /// Returns the calls of the window or, if these are fewer than the minimum, of as many windows
    /// as it takes to have so many; and whether they are fewer.
    pub(super) fn counts_of_at_least(&self, minimum: u64, now: Time) -> (WindowCounts, bool) {
        let counts = self.counts(now);
        match counts.calls() >= minimum {
            true => (counts, false),
            false => (self.reach_back(minimum, now), true),
        }
    }

    #[cold]
    fn reach_back(&self, minimum: u64, now: Time) -> WindowCounts {
        let mut windows = [WindowCounts::default(); REACH];
        let mut add = |age: u64, kind, count| {
            if let Some(window) = windows.get_mut(age as usize) {
                window.add(counts_of(kind, count));
            }
        };
        for kind in [ENDED, SLOW] {
            for (age, count) in self.recent.ages(kind, now, REACH as u64 * TENTHS) {
                add(age / TENTHS, kind, count);
            }
            for (age, count) in self.earlier.ages(kind, now, REACH as u64) {
                add(age, kind, count);
            }
        }
        let mut sum = WindowCounts::default();
        for window in windows {
            if sum.calls() >= minimum {
                break;
            }
            sum.add(window);
        }
        sum
    }

    /// Returns the successes and failures that the totals do not hold yet.
    pub(super) fn unfolded(&self) -> (u64, u64) {
        self.recent.all(ENDED).fold((0, 0), |(s, f), ended| {
            (s + successes_in(ended), f + failures_in(ended))
        })
    }

    /// Forgets all calls.
    pub(super) fn clear(&self, totals: &Totals) {
        self.recent.clear(|[ended, _]| fold(ended, 0, totals));
        self.earlier.clear(|_| {});
    }
}

/// Returns what a count of this kind counts.
fn counts_of(kind: usize, count: u64) -> WindowCounts {
    match kind {
        ENDED => WindowCounts {
            successes: successes_in(count),
            failures: failures_in(count),
            slow: 0,
        },
        _ => WindowCounts {
            slow: count,
            ..WindowCounts::default()
        },
    }
}

/// Returns the sum of two counts of calls that have ended, halved if it does not fit.
fn sum_of_ended(a: u64, b: u64) -> u64 {
    let successes = successes_in(a) + successes_in(b);
    let failures = failures_in(a) + failures_in(b);
    let shift = u32::from(successes.max(failures) > FIELD);
    failures >> shift << FIELD_BITS | successes >> shift
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

    #[test]
    fn it_reaches_back_window_by_window_until_it_has_its_minimum() {
        let (window, totals) = window();
        // Two calls in every window, one of which fails; every bucket is used again and again.
        for t in (0..20 * WINDOW).step_by(500) {
            window.add(t % WINDOW == 0, &totals, Time(t));
        }
        let now = Time(20 * WINDOW - 1);
        for (minimum, calls) in [(0, 2), (2, 2), (3, 4), (4, 4), (9, 10), (20, 20), (21, 20)] {
            let seen = window.counts_of_at_least(minimum, now);
            let expected = counts(calls / 2, calls / 2, 0);
            assert_eq!(seen, (expected, minimum > 2), "{minimum}");
        }
        window.clear(&totals);
        assert_eq!(window.counts_of_at_least(9, now), (counts(0, 0, 0), true));
    }

    #[test]
    fn what_is_kept_of_earlier_windows_keeps_its_rate_when_it_is_full() {
        let ended = |failures: u64, successes: u64| failures << FIELD_BITS | successes;
        assert_eq!(sum_of_ended(ended(1, 2), ended(3, 4)), ended(4, 6));
        let full = ended(FIELD / 2, FIELD);
        assert_eq!(sum_of_ended(full, full), ended(FIELD / 2, FIELD));
    }
}
