//! A sliding window in time, counted by every thread for itself.
//!
//! Ten buckets per thread slot and kind of end; a bucket is one word, `tag:32 | count:32`, where the
//! tag is the number of the tenth of the window that it counts. Whoever finds another tag starts
//! the bucket anew, and readers leave out what is not of the last ten tenths: so reads expire too,
//! and an idle client remembers nothing.

use crate::{
    clock::{Time, nanos},
    shared::{Padded, thread_index},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const TENTHS: u64 = 10;

/// Calls of the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Recent {
    /// All, those held back included.
    pub(super) calls: u64,
    pub(super) accepted: u64,
}

#[derive(Debug)]
pub(super) struct ThrottleCounts {
    /// Nanoseconds of a tenth of the window.
    tenth: u64,
    shards: Box<[Padded<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    accepted: [AtomicU64; TENTHS as usize],
    /// Refused by the service, or held back.
    refused: [AtomicU64; TENTHS as usize],
    overloaded_total: AtomicU64,
    held_back_total: AtomicU64,
}

impl ThrottleCounts {
    /// `shards` must be a power of two.
    pub(super) fn new(window: Duration, shards: usize) -> Self {
        Self {
            tenth: (nanos(window) / TENTHS).max(10),
            shards: (0..shards).map(|_| Padded::default()).collect(),
        }
    }

    #[inline]
    pub(super) fn accepted(&self, now: Time) {
        self.add(&self.own().accepted, now);
    }

    pub(super) fn overloaded(&self, now: Time) {
        let own = self.own();
        self.add(&own.refused, now);
        own.overloaded_total.fetch_add(1, Relaxed);
    }

    pub(super) fn held_back(&self, now: Time) {
        let own = self.own();
        self.add(&own.refused, now);
        own.held_back_total.fetch_add(1, Relaxed);
    }

    /// The calls that ended in the last ten tenths, the current one included.
    pub(super) fn recent(&self, now: Time) -> Recent {
        let last = now.0 / self.tenth;
        let (mut accepted, mut refused) = (0, 0);
        for n in last.saturating_sub(TENTHS - 1)..=last {
            let (i, tag) = ((n % TENTHS) as usize, tag_of(n));
            for shard in &self.shards {
                accepted += count_of(shard.0.accepted[i].load(Relaxed), tag);
                refused += count_of(shard.0.refused[i].load(Relaxed), tag);
            }
        }
        Recent {
            calls: accepted + refused,
            accepted,
        }
    }

    /// Calls that the service refused and calls held back, ever.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(o, h), shard| {
            let shard = &shard.0;
            (
                o + shard.overloaded_total.load(Relaxed),
                h + shard.held_back_total.load(Relaxed),
            )
        })
    }

    /// When what is counted now will have left the window.
    pub(super) fn gone_after(&self, now: Time) -> Time {
        Time((now.0 / self.tenth + TENTHS).saturating_mul(self.tenth))
    }

    /// The longest that [`gone_after`](Self::gone_after) can lie ahead.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_nanos(self.tenth * TENTHS)
    }

    /// The number of this hundredth of the window; it repeats after more than a year.
    pub(super) fn hundredth(&self, now: Time) -> u32 {
        (now.0 / (self.tenth / 10)) as u32
    }

    #[inline]
    fn own(&self) -> &Shard {
        &self.shards[thread_index() & (self.shards.len() - 1)].0
    }

    #[inline]
    fn add(&self, buckets: &[AtomicU64; TENTHS as usize], now: Time) {
        let n = now.0 / self.tenth;
        let (bucket, tag) = (&buckets[(n % TENTHS) as usize], tag_of(n));
        let mut word = bucket.load(Relaxed);
        loop {
            // A count of four thousand million in a tenth of a window is not one to overflow.
            let next = match word >> 32 == tag {
                true if word as u32 == u32::MAX => return,
                true => word + 1,
                false => tag << 32 | 1,
            };
            match bucket.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }
}

/// Never zero for the first tenths, so that an empty word is not one of theirs.
#[inline]
fn tag_of(n: u64) -> u64 {
    u64::from((n as u32).wrapping_add(1))
}

#[inline]
fn count_of(word: u64, tag: u64) -> u64 {
    match word >> 32 == tag {
        true => u64::from(word as u32),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> ThrottleCounts {
        ThrottleCounts::new(Duration::from_nanos(1_000), 1)
    }

    #[test]
    fn a_tenth_leaves_exactly_at_the_edge_and_reads_expire_without_writes() {
        let counts = counts();
        counts.accepted(Time(0));
        counts.overloaded(Time(99));
        counts.held_back(Time(100));
        let recent = |t| {
            let recent = counts.recent(Time(t));
            (recent.calls, recent.accepted)
        };
        assert_eq!(recent(999), (3, 1));
        assert_eq!(recent(1_000), (1, 0));
        assert_eq!(recent(1_100), (0, 0));
        assert_eq!(counts.totals(), (1, 1));
        assert_eq!(counts.gone_after(Time(100)), Time(1_100));
        assert_eq!(counts.gone_after(Time(199)), Time(1_100));
    }

    #[test]
    fn a_clock_that_jumps_back_or_far_ahead_loses_history_and_nothing_else() {
        let counts = counts();
        for t in [1 << 62, 0, 5_000, 3, u64::MAX, 1 << 60] {
            counts.accepted(Time(t));
            assert!(counts.recent(Time(t)).accepted >= 1, "{t}");
            assert!(
                counts.gone_after(Time(t)) >= Time(t).after(Duration::from_nanos(1))
                    || t == u64::MAX
            );
        }
    }
}
