//! A sliding window in time, counted by every thread for itself.
//!
//! A window is ten buckets per thread slot. A bucket is one word, `tag:24 | failures:20 |
//! successes:20`, where the tag is the number of the tenth it counts. Whoever finds the tag of an
//! earlier tenth starts the bucket anew, so nothing has to move a head, and readers leave out what
//! is not of the last ten tenths, so that reads expire too.

use super::totals::Totals;
use crate::{
    clock::Time,
    shared::{Padded, thread_index},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BUCKETS: u64 = 10;
const FIELD: u64 = (1 << 20) - 1;
const TAG_BITS: u32 = 24;
/// One success, in a bucket.
const SUCCESS: u64 = 1;
/// One failure, in a bucket.
const FAILURE: u64 = 1 << 20;

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

#[derive(Debug, Default)]
struct Shard {
    buckets: [AtomicU64; BUCKETS as usize],
    /// `tag:24 | slow:40`, touched by slow calls only.
    slow: [AtomicU64; BUCKETS as usize],
    /// The tenth in which this shard counted last: saves a division in most calls.
    last: AtomicU64,
}

#[cfg(test)]
pub(super) const SHARD_BYTES: usize = size_of::<Padded<Shard>>();

#[derive(Debug)]
pub(super) struct TimeWindow {
    /// Nanoseconds of a tenth.
    tenth: u64,
    shards: Box<[Padded<Shard>]>,
}

impl TimeWindow {
    /// `shards` must be a power of two.
    pub(super) fn new(window: u64, shards: usize) -> Self {
        Self {
            tenth: (window / BUCKETS).max(1),
            shards: (0..shards).map(|_| Padded::default()).collect(),
        }
    }

    /// Counts a call that was not slow. True if it is the first one in this tenth: then earlier
    /// calls may have left the window, and the rates have to be looked at.
    #[inline]
    pub(super) fn add(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        let shard = &self.shards[thread_index() & (self.shards.len() - 1)].0;
        let mut n = shard.last.load(Relaxed);
        if now.0.wrapping_sub(n.wrapping_mul(self.tenth)) >= self.tenth {
            n = now.0 / self.tenth;
            shard.last.store(n, Relaxed);
        }
        let (tag, one) = (tag_of(n), if failed { FAILURE } else { SUCCESS });
        let bucket = &shard.buckets[(n % BUCKETS) as usize];
        let mut word = bucket.load(Relaxed);
        loop {
            let current = tag_in(word) == tag;
            let next = match current {
                true if word & (one * FIELD) != one * FIELD => word + one,
                // About to overflow: half of both keeps the rate.
                true => halved(word) + one,
                false => tag << 40 | one,
            };
            match bucket.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) if !current || next < word => {
                    let kept = if current { halved(word) } else { 0 };
                    self.turned(shard, n, current, word, kept, totals);
                    return !current;
                }
                Ok(_) => return false,
                Err(seen) => word = seen,
            }
        }
    }

    /// A bucket was begun anew or halved: what it no longer holds goes to the totals.
    #[cold]
    fn turned(&self, shard: &Shard, n: u64, halve: bool, was: u64, kept: u64, totals: &Totals) {
        fold(was, kept, totals);
        if halve {
            let cell = &shard.slow[(n % BUCKETS) as usize];
            let _ = cell.fetch_update(Relaxed, Relaxed, |word| {
                (tag_in(word) == tag_of(n)).then_some(word - (word & SLOW).div_ceil(2))
            });
        }
    }

    /// Counts a slow call.
    pub(super) fn add_slow(&self, failed: bool, totals: &Totals, now: Time) -> bool {
        let shard = &self.shards[thread_index() & (self.shards.len() - 1)].0;
        let n = now.0 / self.tenth;
        let tag = tag_of(n);
        let cell = &shard.slow[(n % BUCKETS) as usize];
        let _ = cell.fetch_update(Relaxed, Relaxed, |word| {
            let before = if tag_in(word) == tag { word } else { tag << 40 };
            Some(before + 1)
        });
        self.add(failed, totals, now)
    }

    /// The calls that ended in the last ten tenths, the current one included.
    pub(super) fn counts(&self, now: Time) -> WindowCounts {
        let (last, mut sum) = (now.0 / self.tenth, WindowCounts::default());
        for n in last.saturating_sub(BUCKETS - 1)..=last {
            let (i, tag) = ((n % BUCKETS) as usize, tag_of(n));
            for shard in &self.shards {
                let word = shard.0.buckets[i].load(Relaxed);
                if tag_in(word) == tag {
                    sum.successes += word & FIELD;
                    sum.failures += word >> 20 & FIELD;
                    let slow = shard.0.slow[i].load(Relaxed);
                    if tag_in(slow) == tag {
                        sum.slow += slow & SLOW;
                    }
                }
            }
        }
        sum
    }

    /// Successes and failures that the totals do not hold yet.
    pub(super) fn unfolded(&self) -> (u64, u64) {
        let words = self.shards.iter().flat_map(|s| &s.0.buckets);
        words.map(|b| b.load(Relaxed)).fold((0, 0), |(s, f), word| {
            (s + (word & FIELD), f + (word >> 20 & FIELD))
        })
    }

    /// Forgets all calls.
    pub(super) fn clear(&self, totals: &Totals) {
        for shard in &self.shards {
            for bucket in &shard.0.buckets {
                fold(bucket.swap(0, Relaxed), 0, totals);
            }
            for slow in &shard.0.slow {
                slow.store(0, Relaxed);
            }
        }
    }
}

const SLOW: u64 = (1 << 40) - 1;

/// Never zero for the first tenths, so that an empty word is not one of theirs. It repeats after 83
/// million tenths in the same bucket (2.6 years of the default window); what it would revive then
/// is what one bucket held that long ago.
#[inline]
fn tag_of(n: u64) -> u64 {
    (n + 1) & ((1 << TAG_BITS) - 1)
}

#[inline]
fn tag_in(word: u64) -> u64 {
    word >> 40
}

fn halved(word: u64) -> u64 {
    let (failures, successes) = (word >> 20 & FIELD, word & FIELD);
    word & !SLOW | (failures / 2) << 20 | (successes / 2)
}

fn fold(was: u64, kept: u64, totals: &Totals) {
    let gone = |shift| (was >> shift & FIELD) - (kept >> shift & FIELD);
    let own = totals.own();
    own.successes.fetch_add(gone(0), Relaxed);
    own.failures.fetch_add(gone(20), Relaxed);
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
    fn a_tenth_leaves_exactly_at_the_edge_and_reads_expire_without_writes() {
        let (window, totals) = window();
        assert!(window.add(true, &totals, Time(0)));
        assert!(!window.add(false, &totals, Time(99)));
        assert!(window.add(false, &totals, Time(100)));
        assert_eq!(window.counts(Time(999)), counts(2, 1, 0));
        assert_eq!(window.counts(Time(1_000)), counts(1, 0, 0));
        assert_eq!(window.counts(Time(1_099)), counts(1, 0, 0));
        assert_eq!(window.counts(Time(1_100)), counts(0, 0, 0));
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
    fn a_clock_that_jumps_back_or_far_ahead_loses_history_and_nothing_else() {
        let (window, totals) = window();
        for t in [1 << 62, 0, 5_000, 3, 1 << 63, 1 << 60] {
            window.add_slow(false, &totals, Time(t));
            let now = window.counts(Time(t));
            assert!(now.calls() >= 1 && now.slow >= 1, "{t}: {now:?}");
        }
        assert_eq!(window.unfolded().0 + totals.sum(|c| &c.successes), 6);
    }
}
