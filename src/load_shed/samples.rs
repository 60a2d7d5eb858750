//! What calls leave behind, gathered per thread and folded once per window.
//!
//! The integral of the calls in flight needs no history: up to the time `t` it is the sum of all
//! ends, less the sum of all starts, and `t` for each call that has not ended. Each stripe keeps
//! its part of these sums, so a call may end on another thread than it began on.
//!
//! Calls are also counted by age. One that has become so old that it tells nothing about how busy
//! the service is (a stream, a long poll, one that hangs) is *long-lived*, and in no sum any more.

use super::histogram::Histogram;
use crate::{clock::Time, shared::lock, striped::Striped};
use std::{
    mem::take,
    sync::{Mutex, MutexGuard},
};

/// How many calls that ended without ever being suspended one that was timed stands for.
pub(super) const ONE_IN: u32 = 16;

/// How many ages of calls are told apart. Those that are older than the last are long-lived.
pub(super) const AGES: usize = 5;

/// Every so many calls that begin look at more than their own stripe, and so does one that begins
/// this long after the last that did.
const LOOK_EVERY: u32 = 4;
const LOOK_AFTER: u64 = 100_000;

/// A start that lies further ahead is one of a clock that was set back since.
const FUTURE: u64 = 1_000_000_000;

/// What all calls have left behind.
///
/// # Invariants
/// 1. The sum of all `open` is the number of calls in flight that are not long-lived, and that of
///    all `level` the sum of their ends less their starts. One stripe's parts alone may be
///    negative, and wrap.
/// 2. An end is folded once.
/// 3. All stripes tell ages apart at the same times: these change only while all are locked. So a
///    call that ends in another stripe than it began in is taken out of the age it was put into.
#[derive(Debug)]
pub(super) struct Samples(Striped<Mutex<ThreadSamples>>);

/// What the calls of some threads have left behind.
#[derive(Debug, Default)]
pub(super) struct ThreadSamples {
    /// Calls that began here, less those that ended here or became long-lived.
    open: u64,
    /// The sum of ends less the sum of starts, in nanoseconds. Both wrap, as their sum over all
    /// stripes does; the difference between two windows is small.
    level: u64,
    /// How many began here, and when one last looked: decides which of them look at more than
    /// their own stripe.
    began: u32,
    looked: u64,
    /// The latest start of a call that was counted here.
    newest: u64,
    /// When each age begins, the youngest first, and how many calls in flight are of it.
    since: [u64; AGES],
    of_age: [u64; AGES],
    /// Long-lived calls that began here, less those that ended here.
    long_lived: u64,
    done: Done,
}

/// Calls that have ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) completions: u64,
    pub(super) failures: u64,
    pub(super) overloaded: u64,
    pub(super) lost: u64,
    /// Long-lived calls that were answered after all, and how long they took, in seconds.
    pub(super) outlived: u64,
    pub(super) outlived_sum: f64,
    /// Seconds.
    pub(super) sum: f64,
    pub(super) squares: f64,
    pub(super) min: f64,
    /// Call-seconds that are not in any level.
    pub(super) aside: f64,
    /// Of those that began in the window too: all, and those that took the last permit.
    pub(super) within: Histogram,
    pub(super) at_limit: Histogram,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            completions: 0,
            failures: 0,
            overloaded: 0,
            lost: 0,
            outlived: 0,
            outlived_sum: 0.0,
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            aside: 0.0,
            within: Histogram::default(),
            at_limit: Histogram::default(),
        }
    }
}

impl Done {
    pub(super) fn ends(&self) -> u64 {
        self.completions + self.failures + self.overloaded + self.lost
    }

    /// Counts so many calls that were completed in this time.
    pub(super) fn complete(&mut self, weight: u32, seconds: f64) {
        let n = f64::from(weight);
        self.completions += u64::from(weight);
        self.sum += n * seconds;
        self.squares += n * seconds * seconds;
        self.min = self.min.min(seconds);
    }

    /// Adds all calls of another one, and empties it.
    fn take_from(&mut self, other: &mut Self) {
        self.completions += take(&mut other.completions);
        self.failures += take(&mut other.failures);
        self.overloaded += take(&mut other.overloaded);
        self.lost += take(&mut other.lost);
        self.outlived += take(&mut other.outlived);
        self.outlived_sum += take(&mut other.outlived_sum);
        self.sum += take(&mut other.sum);
        self.squares += take(&mut other.squares);
        self.min = self.min.min(other.min);
        other.min = f64::INFINITY;
        self.aside += take(&mut other.aside);
        self.within.take_from(&mut other.within);
        self.at_limit.take_from(&mut other.at_limit);
    }
}

impl ThreadSamples {
    /// Counts a call in flight since then. Returns whether it is worth looking at all stripes,
    /// which it is now and then.
    pub(super) fn begin(&mut self, start: Time) -> bool {
        self.go_on(start, start);
        self.began = self.began.wrapping_add(1);
        let look = self.began % LOOK_EVERY == 1
            || start.0.saturating_sub(self.looked) > LOOK_AFTER
            || start.0 < self.looked;
        if look {
            self.looked = start.0;
        }
        look
    }

    /// Counts a call that is in flight again since then, and is as old as if it had begun at this
    /// start.
    pub(super) fn go_on(&mut self, start: Time, since: Time) {
        self.newest = self.newest.max(start.0);
        match self.age(start) {
            Some(age) => {
                *age = age.wrapping_add(1);
                self.open = self.open.wrapping_add(1);
                self.level = self.level.wrapping_sub(since.0);
            }
            None => self.long_lived = self.long_lived.wrapping_add(1),
        }
    }

    /// Takes out a call that began then and is not in flight any more, since `end`. Returns
    /// whether it was long-lived.
    pub(super) fn end(&mut self, start: Time, end: Time) -> bool {
        match self.age(start) {
            Some(age) => {
                *age = age.wrapping_sub(1);
                self.open = self.open.wrapping_sub(1);
                self.level = self.level.wrapping_add(end.0);
                false
            }
            None => {
                self.long_lived = self.long_lived.wrapping_sub(1);
                true
            }
        }
    }

    /// Returns the count of calls that are as old as one that began then, unless they are
    /// long-lived.
    fn age(&mut self, start: Time) -> Option<&mut u64> {
        let mut ages = self.since.iter().zip(&mut self.of_age);
        ages.find(|(since, _)| **since <= start.0)
            .map(|(_, count)| count)
    }

    pub(super) fn done(&mut self) -> &mut Done {
        &mut self.done
    }

    /// Lets the oldest become long-lived, and the others an age older: all that began before
    /// `since`.
    fn grow_older(&mut self, since: u64, now: Time) {
        self.of_age.rotate_right(1);
        self.since.rotate_right(1);
        let oldest = take(&mut self.of_age[0]);
        self.since[0] = since;
        self.long_lived = self.long_lived.wrapping_add(oldest);
        self.open = self.open.wrapping_sub(oldest);
        // As if they had ended.
        self.level = self.level.wrapping_add(oldest.wrapping_mul(now.0));
    }

    /// Takes all for young.
    fn forget_ages(&mut self, now: Time) {
        let long_lived = take(&mut self.long_lived);
        self.open = self.open.wrapping_add(long_lived);
        self.level = self.level.wrapping_sub(long_lived.wrapping_mul(now.0));
        let all = self
            .of_age
            .iter()
            .fold(long_lived, |a, b| a.wrapping_add(*b));
        self.of_age = [0; AGES];
        self.since = [0; AGES];
        self.of_age[0] = all;
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

    /// Takes out what has ended since the last time. Returns what the integral of the calls in
    /// flight has come to by `now`, in nanoseconds from a point that never changes, and how many
    /// calls are long-lived.
    pub(super) fn fold(&self, into: &mut Done, now: Time) -> (u64, u64) {
        let (mut level, mut open, mut long_lived) = (0_u64, 0_u64, 0_u64);
        for part in self.0.iter() {
            let mut part = lock(part);
            into.take_from(&mut part.done);
            level = level.wrapping_add(part.level);
            open = open.wrapping_add(part.open);
            long_lived = long_lived.wrapping_add(part.long_lived);
        }
        (level.wrapping_add(open.wrapping_mul(now.0)), long_lived)
    }

    /// Lets calls become older by as many ages as have passed, if that many: the oldest become
    /// long-lived. Only one thread at a time may do so.
    pub(super) fn grow_older(&self, ages: u64, age: u64, now: Time) {
        let mut parts = self.all();
        // Later than every start that was counted, so that none of them is in the age that begins.
        let newest = parts.iter().map(|part| part.newest).max().unwrap_or(0);
        if newest.saturating_sub(now.0) > FUTURE {
            // The clock was set back; until it has caught up, nobody's age is known.
            return;
        }
        let since = now.0.max(newest.saturating_add(1));
        // The youngest may have begun just now.
        let passed = now.0.saturating_sub(newest) / age.max(1);
        for _ in 0..ages.min(passed).clamp(1, AGES as u64 + 1) {
            parts
                .iter_mut()
                .for_each(|part| part.grow_older(since, now));
        }
    }

    /// Takes all calls for young: their ages are not known any more.
    pub(super) fn forget_ages(&self, now: Time) {
        self.all().iter_mut().for_each(|part| part.forget_ages(now));
    }

    fn all(&self) -> Vec<MutexGuard<'_, ThreadSamples>> {
        // Everybody else holds one of them at most, so the order does not matter.
        self.0.iter().map(lock).collect()
    }
}

/// Returns what lies between two values of the integral, in call-seconds.
pub(super) fn between(earlier: u64, later: u64) -> f64 {
    later.wrapping_sub(earlier) as i64 as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time(s * 1_000_000_000 + 12_345)
    }

    fn fold(samples: &Samples, now: Time) -> (u64, u64) {
        samples.fold(&mut Done::default(), now)
    }

    #[test]
    fn the_integral_counts_every_call_for_as_long_as_it_ran_wherever_it_ended() {
        let samples = Samples::new(4);
        samples.of(0).begin(at(10));
        samples.of(1).begin(at(10));
        let (zero, _) = fold(&samples, at(10));
        samples.of(3).end(at(10), at(12));
        let (two, _) = fold(&samples, at(13));
        assert_eq!(between(zero, two), 5.0);
        samples.of(2).begin(at(14));
        let (three, _) = fold(&samples, at(15));
        assert_eq!(between(two, three), 3.0);
        // Left out: as if it had ended when the window began.
        samples.of(2).end(at(14), at(13));
        assert_eq!(between(two, fold(&samples, at(15)).0), 1.0);
    }

    #[test]
    fn far_times_wrap_and_differences_stay() {
        let samples = Samples::new(1);
        for n in 0..5 {
            samples.of(0).begin(Time(u64::MAX - 10 - n));
        }
        let (before, _) = fold(&samples, Time(u64::MAX - 9));
        let (after, _) = fold(&samples, Time(u64::MAX));
        assert!((between(before, after) - 45e-9).abs() < 1e-15);
    }

    #[test]
    fn what_has_ended_is_taken_out_once() {
        let samples = Samples::new(2);
        samples.of(0).done().complete(1, 0.5);
        samples.of(1).done().complete(16, 0.25);
        let mut done = Done::default();
        samples.fold(&mut done, Time(0));
        assert_eq!(
            (done.completions, done.sum, done.squares, done.min),
            (17, 4.5, 1.25, 0.25)
        );
        let mut again = Done::default();
        samples.fold(&mut again, Time(0));
        assert_eq!(again.ends(), 0);
    }

    #[test]
    fn a_call_becomes_long_lived_after_its_ages_and_leaves_no_trace_wherever_it_ends() {
        let samples = Samples::new(4);
        samples.grow_older(1, 1, at(0));
        samples.of(0).begin(at(1));
        samples.of(1).begin(at(1));
        for second in 2..2 + AGES as u64 {
            assert_eq!(fold(&samples, at(second)).1, 0, "at {second}");
            samples.grow_older(1, 1_000_000_000, at(second));
        }
        let (before, long_lived) = fold(&samples, at(7));
        assert_eq!(long_lived, 2);
        samples.of(2).begin(at(8));
        // Only the young one counts.
        assert_eq!(between(before, fold(&samples, at(10)).0), 2.0);
        assert!(samples.of(3).end(at(1), at(11)));
        assert!(!samples.of(3).end(at(8), at(10)));
        let (after, long_lived) = fold(&samples, at(20));
        assert_eq!((between(before, after), long_lived), (2.0, 1));
        assert!(samples.of(0).end(at(1), at(30)));
        assert_eq!(fold(&samples, at(40)), (after, 0));
        let of_ages = |slot| {
            samples
                .of(slot)
                .of_age
                .iter()
                .copied()
                .fold(0, u64::wrapping_add)
        };
        assert_eq!((0..4).map(of_ages).fold(0, u64::wrapping_add), 0);
    }

    #[test]
    fn what_began_before_a_silence_is_long_lived_after_it() {
        let samples = Samples::new(2);
        samples.of(0).begin(at(1));
        samples.of(1).begin(at(2));
        samples.grow_older(3_600, 1_000_000_000, at(3_600));
        assert_eq!(fold(&samples, at(3_600)).1, 2);
        samples.of(1).begin(at(3_600));
        samples.grow_older(1, 1_000_000_000, at(3_601));
        assert_eq!(fold(&samples, at(3_601)).1, 2);
    }

    #[test]
    fn calls_that_began_at_the_same_moment_as_ages_change_are_counted_once() {
        let samples = Samples::new(2);
        for second in 1..20 {
            for _ in 0..20 {
                samples.of(0).begin(at(second));
            }
            samples.grow_older(1, 1_000_000_000, at(second));
            for _ in 0..20 {
                assert!(!samples.of(1).end(at(second), at(second)));
            }
        }
        assert_eq!(fold(&samples, at(20)).1, 0);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_long_lived() {
        let samples = Samples::new(2);
        samples.grow_older(1, 1, at(90));
        samples.of(0).begin(at(100));
        samples.grow_older(1, 1, at(100));
        samples.forget_ages(at(10));
        for second in 10..30 {
            samples.of(0).begin(at(second));
            samples.grow_older(1, 1_000_000_000, at(second));
            assert!(!samples.of(1).end(at(second), at(second)));
        }
        assert_eq!(fold(&samples, at(30)).1, 0);
        assert!(!samples.of(1).end(at(100), at(30)));
        assert_eq!(fold(&samples, at(31)).1, 0);
    }
}
