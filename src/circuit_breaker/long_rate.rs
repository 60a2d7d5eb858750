//! Services that hang for some of their callers: the rate of calls that were left after a long
//! time.
//!
//! A rate alone cannot tell a hang from a slow route that callers leave as a matter of course, so
//! only what exceeds the usual counts: the rate has to be half of the way from the usual one to
//! all, and 4.5 standard deviations above it. It still cannot tell a route that newly hangs from a
//! slow one that is newly called, and is off by default for that reason.
//!
//! The window is the last 40 calls, or 3 s where these hold more: 40 calls alone would be a
//! fraction of a second of a busy service, and chance would decide.

use super::abandoned::{MEMORY, MEMORY_CALLS};
use crate::clock::Time;

/// Nanoseconds of a slot; and how many of them are in the window.
const SLOT: u64 = 250_000_000;
const SLOTS: usize = 12;
/// Calls in the window, if these go back further than its slots do; and at least.
const CALLS: u32 = 40;
const MINIMUM: u64 = 20;
/// What is usual is known after so many calls and so many nanoseconds.
const KNOWN_CALLS: f64 = 200.0;
const KNOWN_AFTER: u64 = 60_000_000_000;
/// Of the way from the usual rate to all calls.
const EXCESS: f64 = 0.5;
const DEVIATIONS: f64 = 4.5;

/// Calls that were long and left, among all.
#[derive(Debug, Default)]
pub(super) struct LongRate {
    /// A bit for each of the last calls, the latest in the last one; and how many there are.
    last: u64,
    kept: u32,
    slots: [Slot; SLOTS],
    /// The usual rate, and over how many calls it was taken.
    base: f64,
    calls: f64,
    /// When the first and the last call were counted.
    first: Option<Time>,
    at: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which one since the base of time, and 1.
    number: u64,
    calls: u64,
    long: u64,
}

impl LongRate {
    /// Counts a call. True if the rate has become too high.
    pub(super) fn count(&mut self, long: bool, now: Time) -> bool {
        self.last = (self.last << 1 | u64::from(long)) & ((1 << CALLS) - 1);
        self.kept = (self.kept + 1).min(CALLS);
        let number = now.0 / SLOT + 1;
        if let Some(slot) = self.slots.get_mut((number % SLOTS as u64) as usize) {
            if slot.number != number {
                *slot = Slot {
                    number,
                    ..Slot::default()
                };
            }
            slot.calls += 1;
            slot.long += u64::from(long);
        }
        let first = *self.first.get_or_insert(now);
        let known = self.calls >= KNOWN_CALLS && now.0.saturating_sub(first.0) >= KNOWN_AFTER;
        let high = known && long && self.is_high(number);
        self.follow(long, known, now);
        high
    }

    fn is_high(&self, number: u64) -> bool {
        let recent = self.slots.iter();
        let recent = recent.filter(|slot| slot.number + SLOTS as u64 > number);
        let (mut calls, mut long) =
            recent.fold((0, 0), |(c, l), slot| (c + slot.calls, l + slot.long));
        if calls < u64::from(self.kept) {
            (calls, long) = (u64::from(self.kept), u64::from(self.last.count_ones()));
        }
        let base = self.base;
        let deviation = (base * (1.0 - base) / calls as f64).sqrt();
        let limit = (base + EXCESS * (1.0 - base)).max(base + DEVIATIONS * deviation);
        calls >= MINIMUM && long as f64 / calls as f64 >= limit
    }

    /// Takes the call into what is usual: a plain mean at first, which follows slowly afterwards.
    fn follow(&mut self, long: bool, known: bool, now: Time) {
        let apart = now.0.saturating_sub(self.at.0) as f64;
        let slow = (1.0 / MEMORY_CALLS).min(apart / MEMORY);
        let mean = 1.0 / (self.calls + 1.0);
        let weight = if known { slow } else { mean };
        let long = if long { 1.0 } else { 0.0 };
        self.base = (self.base + weight * (long - self.base)).clamp(0.0, 1.0);
        (self.calls, self.at) = (self.calls + 1.0, now);
    }

    /// Forgets the calls, and keeps what is usual.
    pub(super) fn forget(&mut self) {
        (self.last, self.kept) = (0, 0);
        self.slots = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts so many calls, `apart` milliseconds from each other, of which this many in ten were
    /// left after a long time. Returns how many it took until the rate was too high.
    fn run(rate: &mut LongRate, at: &mut u64, apart: u64, calls: u64, long: u64) -> Option<u64> {
        (1..=calls).find(|call| {
            *at += apart;
            rate.count(call * 7 % 10 < long, Time(*at * 1_000_000))
        })
    }

    #[test]
    fn only_what_exceeds_the_usual_counts_and_only_once_that_is_known() {
        let (mut rate, mut at) = (LongRate::default(), 1_000);
        // Nothing is known within a minute, however many calls.
        assert_eq!(run(&mut rate, &mut at, 50, 1_100, 10), None);
        let (mut rate, mut at) = (LongRate::default(), 1_000);
        assert_eq!(run(&mut rate, &mut at, 50, 3_000, 5), None, "half of them");
        let opens = run(&mut rate, &mut at, 50, 200, 10);
        assert!(opens.is_some_and(|calls| calls <= 60), "{opens:?}");
    }

    #[test]
    fn six_of_ten_are_enough_if_none_was_usual_at_every_frequency() {
        for apart in [5_000, 500, 50, 5] {
            let (mut rate, mut at) = (LongRate::default(), 1_000);
            let calm = 100_000 / apart + 300;
            assert_eq!(run(&mut rate, &mut at, apart, calm, 0), None);
            let opens = run(&mut rate, &mut at, apart, 2_000, 6);
            let window = (3_000 / apart).max(40) + 10;
            assert!(opens.is_some_and(|n| n <= window), "{apart}: {opens:?}");
            rate.forget();
            assert_eq!(run(&mut rate, &mut at, apart, 19, 10), None, "the minimum");
        }
    }

    #[test]
    fn what_is_usual_is_known_after_two_hundred_calls_and_a_minute() {
        for (calm, gap, opens) in [(175, 60_000, false), (200, 0, true), (200, 60_000, true)] {
            let (mut rate, mut at) = (LongRate::default(), 1_000);
            let apart = 60_000 / calm + 1;
            assert_eq!(run(&mut rate, &mut at, apart, calm, 0), None);
            at += gap;
            let high = run(&mut rate, &mut at, 5, 24, 10);
            assert_eq!(high.is_some(), opens, "{calm} {gap}");
        }
        // In less than a minute, however many they are.
        let (mut rate, mut at) = (LongRate::default(), 1_000);
        assert_eq!(run(&mut rate, &mut at, 59, 1_000, 0), None);
        assert_eq!(run(&mut rate, &mut at, 1, 900, 10), None);
    }

    #[test]
    fn where_some_calls_usually_are_long_it_takes_half_of_the_way_to_all() {
        for (long, opens) in [(5, false), (7, true)] {
            let (mut rate, mut at) = (LongRate::default(), 1_000);
            assert_eq!(run(&mut rate, &mut at, 50, 3_000, 2), None);
            let high = run(&mut rate, &mut at, 50, 60, long);
            assert_eq!(high.is_some(), opens, "two, then {long} of ten");
        }
    }
}
