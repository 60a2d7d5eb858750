//! What calls leave behind, gathered per thread and folded once per window.
//!
//! The integral of the calls in flight needs no history: up to the time `t` it is the sum of all
//! ends, less the sum of all starts, and `t` for each call that has not ended. Each stripe keeps
//! its part of these sums, so a call may end on another thread than it began on.

use crate::{clock::Time, shared::lock, striped::Striped};
use std::sync::{Mutex, MutexGuard};

/// How many calls that ended without ever being suspended one that was timed stands for.
pub(super) const ONE_IN: u32 = 16;

/// What all calls have left behind.
///
/// # Invariants
/// 1. The sum of all `open` is the number of calls in flight, and that of all `level` the sum of
///    their ends less their starts. One stripe's parts alone may be negative, and wrap.
/// 2. An end is folded once.
#[derive(Debug)]
pub(super) struct Samples(Striped<Mutex<ThreadSamples>>);

/// What the calls of some threads have left behind.
#[derive(Debug, Default)]
pub(super) struct ThreadSamples {
    /// Calls that began here, less those that ended here.
    open: u64,
    /// The sum of ends less the sum of starts, in nanoseconds. Both wrap, as their sum over all
    /// stripes does; the difference between two windows is small.
    level: u64,
    /// How many began here: decides which of them look at more than their own stripe.
    began: u32,
    done: Done,
}

/// Calls that have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) completions: u64,
    pub(super) overloaded: u64,
    pub(super) lost: u64,
    /// Seconds.
    pub(super) sum: f64,
    pub(super) squares: f64,
    pub(super) min: f64,
    /// Call-seconds that are not in any level.
    pub(super) aside: f64,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            completions: 0,
            overloaded: 0,
            lost: 0,
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            aside: 0.0,
        }
    }
}

impl Done {
    pub(super) fn ends(&self) -> u64 {
        self.completions + self.overloaded + self.lost
    }

    /// Counts so many calls that were completed in this time.
    pub(super) fn complete(&mut self, weight: u32, seconds: f64) {
        let n = f64::from(weight);
        self.completions += u64::from(weight);
        self.sum += n * seconds;
        self.squares += n * seconds * seconds;
        self.min = self.min.min(seconds);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.completions += other.completions;
        self.overloaded += other.overloaded;
        self.lost += other.lost;
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.aside += other.aside;
    }
}

impl ThreadSamples {
    /// Counts a call in flight since then. Returns whether it is worth looking at all stripes,
    /// which it is now and then.
    pub(super) fn begin(&mut self, start: Time) -> bool {
        self.open = self.open.wrapping_add(1);
        self.level = self.level.wrapping_sub(start.0);
        self.began = self.began.wrapping_add(1);
        self.began % 4 == 1
    }

    /// Counts a call that is in flight again since then.
    pub(super) fn go_on(&mut self, since: Time) {
        self.open = self.open.wrapping_add(1);
        self.level = self.level.wrapping_sub(since.0);
    }

    /// Takes out a call that is not in flight any more, since then.
    pub(super) fn end(&mut self, end: Time) {
        self.open = self.open.wrapping_sub(1);
        self.level = self.level.wrapping_add(end.0);
    }

    pub(super) fn done(&mut self) -> &mut Done {
        &mut self.done
    }
}

impl Samples {
    pub(super) fn new(stripes: usize) -> Self {
        Self(Striped::new(stripes.next_power_of_two(), |_| {
            Mutex::default()
        }))
    }

    /// Returns the part of the threads of this slot. Another one holds it only if it has the same
    /// slot, or folds.
    pub(super) fn of(&self, slot: usize) -> MutexGuard<'_, ThreadSamples> {
        lock(self.0.at(slot))
    }

    /// Takes out what has ended since the last time. Also returns what the integral of the calls in
    /// flight has come to by `now`, in nanoseconds from a point that never changes.
    pub(super) fn fold(&self, now: Time) -> (Done, u64) {
        let (mut done, mut level, mut open) = (Done::default(), 0_u64, 0_u64);
        for part in self.0.iter() {
            let mut part = lock(part);
            done.add(std::mem::take(&mut part.done));
            level = level.wrapping_add(part.level);
            open = open.wrapping_add(part.open);
        }
        (done, level.wrapping_add(open.wrapping_mul(now.0)))
    }
}

/// Returns what lies between two values of the integral, in call-seconds.
pub(super) fn between(earlier: u64, later: u64) -> f64 {
    later.wrapping_sub(earlier) as i64 as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_counts_every_call_for_as_long_as_it_ran_wherever_it_ended() {
        let samples = Samples::new(4);
        let at = |s: u64| Time(s * 1_000_000_000 + 12_345);
        samples.of(0).begin(at(10));
        samples.of(1).begin(at(10));
        let (_, zero) = samples.fold(at(10));
        samples.of(3).end(at(12));
        let (_, two) = samples.fold(at(13));
        assert_eq!(between(zero, two), 5.0);
        samples.of(2).begin(at(14));
        let (_, three) = samples.fold(at(15));
        assert_eq!(between(two, three), 3.0);
        // Left out: as if it had ended when the window began.
        samples.of(2).end(at(13));
        assert_eq!(between(two, samples.fold(at(15)).1), 1.0);
    }

    #[test]
    fn far_times_wrap_and_differences_stay() {
        let samples = Samples::new(1);
        for n in 0..5 {
            samples.of(0).begin(Time(u64::MAX - 10 - n));
        }
        let (_, before) = samples.fold(Time(u64::MAX - 9));
        let (_, after) = samples.fold(Time(u64::MAX));
        assert!((between(before, after) - 45e-9).abs() < 1e-15);
    }

    #[test]
    fn what_has_ended_is_taken_out_once() {
        let samples = Samples::new(2);
        samples.of(0).done().complete(1, 0.5);
        samples.of(1).done().complete(16, 0.25);
        let (done, _) = samples.fold(Time(0));
        assert_eq!(
            (done.completions, done.sum, done.squares, done.min),
            (17, 4.5, 1.25, 0.25)
        );
        assert_eq!(samples.fold(Time(0)).0.ends(), 0);
    }
}
