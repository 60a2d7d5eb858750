//! What calls teach that their callers gave up on.
//!
//! Somebody who leaves says nothing: he may be impatient, or the service may hang. What tells the
//! two apart is how long answers usually take, and whether anybody is answered at all:
//!
//! 1. A call that was left before `max(100 ms, 2 T)`, where `T` is the usual time of a success,
//!    counts nowhere; before 1 s, while no success is known.
//! 2. Later ones are late. Late calls with no answer between them are a silence, and a silence of
//!    `max(20, 20 / share)` calls opens the circuit, if it began `max(1 s, 3 T)` or longer ago.
//!    `share` is the usual share of successes among successes and late calls: where one call in ten
//!    is answered, twenty unanswered ones are an everyday thing. While no success is known, it
//!    takes 30 calls and 10 s. And `max(1 s, T)` must have passed since the last answer: a client
//!    that hangs up ends all of its calls at once, however long ago they began.
//! 3. `long_rate.rs` has the rule for services that hang for some of their callers.
//!
//! The numbers were found by simulation; `tests/circuit_breaker/abandoned` repeats it.

use super::long_rate::LongRate;
use crate::{clock::Time, shared::lock};
use std::sync::{
    Mutex, OnceLock,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

/// How often the usual time is looked at, once enough is known of it.
const EVERY: u64 = 250 * MILLI;
/// So many successes are enough.
const ENOUGH: u64 = 8;
/// The usual time is the plain mean of so many first samples, and follows slowly afterwards.
const PLAIN: u64 = 20;
const WEIGHT: f64 = 0.03;

/// Late calls of a silence, at least; and while no success is known.
const CALLS: f64 = 20.0;
const CALLS_COLD: f64 = 30.0;
const LEAST_SHARE: f64 = 0.005;
/// How many calls the share is taken over at least, and for how long.
pub(super) const MEMORY_CALLS: f64 = 500.0;
pub(super) const MEMORY: f64 = 300.0 * SECOND as f64;

const SAMPLES_SHIFT: u32 = 58;
const NANOS: u64 = (1 << SAMPLES_SHIFT) - 1;
const COUNT: u64 = (1 << 20) - 1;

/// What a breaker knows of answers, and of the calls that got none.
///
/// A success reads one time, and writes only if that has come: it has if a silence has begun since,
/// and else once in 250 ms. Late calls write and take a lock: they are rare, or the trouble itself.
///
/// # Invariants
/// 1. Whoever begins a silence, or anything else that the next answer has to end, sets both times
///    of `look` to zero after it, with `Release`. Times are read with `Acquire`, so that an answer
///    that has to look sees what for.
/// 2. The last answer that was looked at is the last of all, or was 250 ms before that at most.
/// 3. An answer is in `answered` before it ends a silence (`Release`, and `AcqRel` by all who
///    lengthen one), so that nobody who counts a later silence takes it for older than it is.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// `samples:6 | nanos:58`; zero while no success is known.
    usual: AtomicU64,
    /// When the next answer has to be looked at: the next that comes at the first poll, and the
    /// next that was waited for. The former have no length, so they must not use up the looks of
    /// the latter.
    look: [AtomicU64; 2],
    sampled: AtomicU64,
    answered: AtomicU64,
    /// `start:44 | count:20`, the start without its last 20 bits, which are a millisecond. Zero is
    /// no silence.
    silence: AtomicU64,
    /// Made when the first call is late: most keys of a keyed breaker never see one.
    share: OnceLock<Box<Mutex<AnsweredShare>>>,
    long: Option<Box<Mutex<LongRate>>>,
}

/// The share of calls that are answered among those that are answered or late.
///
/// A silence is counted when it is over: one that is still going on must not make itself look
/// usual.
#[derive(Debug)]
struct AnsweredShare {
    share: f64,
    /// Over how many calls.
    calls: f64,
    /// Late calls since it was last taken, and what it was taken at.
    late: u64,
    successes: u64,
    at: Time,
}

impl Abandoned {
    /// Makes one that also looks for partial hangs, or does not.
    pub(super) fn new(partial: bool) -> Self {
        Self {
            usual: AtomicU64::new(0),
            look: Default::default(),
            sampled: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            silence: AtomicU64::new(0),
            share: OnceLock::new(),
            long: partial.then(Box::default),
        }
    }

    /// Returns whether an answer at this time has to be [looked at](Self::answered).
    #[inline]
    pub(super) fn is_due(&self, waited_for: bool, now: Time) -> bool {
        now.0 >= self.look[usize::from(waited_for)].load(Acquire)
    }

    /// Has the next answer looked at, whenever it comes.
    pub(super) fn look_at_next(&self) {
        for look in &self.look {
            look.store(0, Release);
        }
    }

    /// Learns from an answer, which ends a silence. `took` is how long a success was waited for:
    /// one that was there at the first poll is left out, because those that are abandoned have all
    /// been waited for, and are compared with their own kind.
    #[cold]
    pub(super) fn answered(&self, took: Option<u64>, now: Time) {
        let look = &self.look[usize::from(took.is_some())];
        let seen = look.load(Acquire);
        self.answered.fetch_max(now.0, Relaxed);
        if self.silence.load(Relaxed) != 0 {
            self.silence.store(0, Release);
        }
        let next = match took {
            Some(took) => self.sample(took, now),
            None => now.0.saturating_add(EVERY),
        };
        // Unless a silence has begun meanwhile.
        let _ = look.compare_exchange(seen, next, Relaxed, Relaxed);
    }

    /// Takes a sample of the usual time, if it is time for one, and returns when the next is due.
    fn sample(&self, took: u64, now: Time) -> u64 {
        let sampled = self.sampled.load(Relaxed);
        let enough = self.usual.load(Relaxed) >> SAMPLES_SHIFT >= ENOUGH;
        let due = sampled.saturating_add(EVERY);
        if enough && now.0 < due {
            return due;
        }
        let turn = self
            .sampled
            .compare_exchange(sampled, now.0, Relaxed, Relaxed);
        if turn.is_ok() || !enough {
            let _ = self.usual.fetch_update(Relaxed, Relaxed, |word| {
                let samples = (word >> SAMPLES_SHIFT) + 1;
                let (mean, took) = ((word & NANOS) as f64, took.min(NANOS) as f64);
                let weight = match samples <= PLAIN {
                    true => 1.0 / samples as f64,
                    false => WEIGHT,
                };
                let mean = (mean + weight * (took - mean)) as u64;
                Some(samples.min(PLAIN + 1) << SAMPLES_SHIFT | mean.min(NANOS))
            });
        }
        match enough {
            true => now.0.saturating_add(EVERY),
            false => 0,
        }
    }

    /// Returns how long a success usually takes, if that is known.
    pub(super) fn usual(&self) -> Option<u64> {
        let word = self.usual.load(Relaxed);
        (word != 0).then_some(word & NANOS)
    }

    /// Returns whether a call that was left after this time is late; `None` if that is not known,
    /// because no success is.
    pub(super) fn is_late(&self, took: u64) -> Option<bool> {
        self.usual().map(|usual| took >= late_after(Some(usual)))
    }

    /// Learns from a call that was left. `successes` is asked how many there have been in all. True
    /// if the circuit has to open.
    #[cold]
    pub(super) fn left(&self, began: Time, successes: impl FnOnce() -> u64, now: Time) -> bool {
        let (took, usual) = (now.0.saturating_sub(began.0), self.usual());
        if took < late_after(usual) {
            return false;
        }
        let long = usual.is_some_and(|usual| took >= (250 * MILLI).max(usual.saturating_mul(4)));
        self.lengthen_silence(began, usual, successes, now) | (long && self.count(true, now))
    }

    fn lengthen_silence(
        &self,
        began: Time,
        usual: Option<u64>,
        successes: impl FnOnce() -> u64,
        now: Time,
    ) -> bool {
        let mut share = lock(self.share.get_or_init(Box::default));
        if self.silence.load(Relaxed) == 0 {
            share.fold(successes(), now);
        }
        share.late += 1;
        // Rounded up, so that the silence never looks longer than it is.
        let start = began.0.saturating_add(COUNT) & !COUNT;
        let longer = |word: u64| match word {
            0 => Some(start | 1),
            full if full & COUNT == COUNT => Some(full),
            word => Some(word + 1),
        };
        let word = match self.silence.fetch_update(AcqRel, Acquire, longer) {
            Ok(before) | Err(before) => longer(before).unwrap_or(before),
        };
        self.look_at_next();
        let (count, lasted) = (word & COUNT, now.0.saturating_sub(word & !COUNT));
        let (calls, least, least_since) = match usual {
            Some(usual) => {
                let calls = CALLS / share.share.max(LEAST_SHARE);
                let least = SECOND.max(usual.saturating_mul(3));
                (calls.max(CALLS), least, SECOND.max(usual))
            }
            None => (CALLS_COLD, 10 * SECOND, 10 * SECOND),
        };
        let since = now.0.saturating_sub(self.answered.load(Relaxed));
        count as f64 >= calls && lasted >= least && since >= least_since
    }

    /// Counts a call for the rule of partial hangs, if that is on: one that was left after a long
    /// time, or one that was answered. True if the circuit has to open.
    #[inline]
    pub(super) fn count(&self, long: bool, now: Time) -> bool {
        let rate = self.long.as_deref();
        rate.is_some_and(|rate| count_with(rate, long, now))
    }

    /// Forgets the calls that were left, and keeps what is usual.
    pub(super) fn forget(&self) {
        self.silence.store(0, Relaxed);
        if let Some(rate) = &self.long {
            lock(rate).forget();
        }
    }
}

impl Default for AnsweredShare {
    fn default() -> Self {
        Self {
            share: 1.0,
            calls: 0.0,
            late: 0,
            successes: 0,
            at: Time(0),
        }
    }
}

impl AnsweredShare {
    /// Takes in all calls since it was last asked.
    fn fold(&mut self, successes: u64, now: Time) {
        let answered = successes.saturating_sub(self.successes) as f64;
        let ended = answered + self.late as f64;
        if ended > 0.0 {
            let calls = self.calls + ended;
            self.share = (self.share * self.calls + answered) / calls;
            let time = now.0.saturating_sub(self.at.0).max(1) as f64;
            self.calls = calls.min((ended * MEMORY / time).max(MEMORY_CALLS));
        }
        (self.late, self.successes, self.at) = (0, successes, now);
        debug_assert!((0.0..=1.0).contains(&self.share), "{self:?}");
    }
}

// Apart, because few breakers have that rule on.
#[inline(never)]
fn count_with(rate: &Mutex<LongRate>, long: bool, now: Time) -> bool {
    lock(rate).count(long, now)
}

/// Returns from when on a call that is left is late.
fn late_after(usual: Option<u64>) -> u64 {
    match usual {
        Some(usual) => (100 * MILLI).max(usual.saturating_mul(2)),
        None => SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time of so many milliseconds.
    fn at(millis: u64) -> Time {
        Time(millis * MILLI)
    }

    /// One that has seen a success of 100 ms every 10 ms for a second.
    fn warm() -> Abandoned {
        let abandoned = Abandoned::new(false);
        (0..100).for_each(|n| abandoned.answered(Some(100 * MILLI), at(9_000 + n * 10)));
        abandoned
    }

    fn left(abandoned: &Abandoned, began: u64, now: u64) -> bool {
        abandoned.left(at(began), || 100, at(now))
    }

    #[test]
    fn a_silence_opens_at_the_twentieth_late_call_a_second_after_it_began() {
        let abandoned = warm();
        for n in 0..19 {
            assert!(!left(&abandoned, 10_000 + n, 10_300 + n), "{n}");
        }
        assert!(!left(&abandoned, 10_000, 10_999), "not a second yet");
        assert!(left(&abandoned, 10_000, 11_002));
        // Those that were left early count nowhere.
        let abandoned = warm();
        for n in 0..1_000 {
            assert!(!left(&abandoned, 10_000 + n, 10_199 + n));
        }
    }

    #[test]
    fn an_answer_of_any_kind_ends_a_silence() {
        for took in [None, Some(100 * MILLI)] {
            let abandoned = warm();
            for round in 0..100 {
                let now = 10_000 + round * 5_000;
                for n in 0..19 {
                    assert!(!left(&abandoned, now + n * 100, now + n * 100 + 1_000));
                }
                assert!(abandoned.is_due(took.is_some(), at(now + 2_900)));
                abandoned.answered(took, at(now + 2_900));
            }
        }
    }

    #[test]
    fn calls_of_a_client_that_hangs_up_at_once_are_no_silence_whenever_they_began() {
        let abandoned = warm();
        for _ in 0..1_000 {
            assert!(!left(&abandoned, 0, 10_100), "answered 110 ms before");
        }
    }

    #[test]
    fn where_few_are_answered_a_silence_has_to_be_longer() {
        let abandoned = warm();
        let mut now = 10_000;
        // One in ten is answered, for a while.
        for round in 0..2_000 {
            for _ in 0..9 {
                now += 100;
                assert!(!abandoned.left(at(now - 1_000), || 100 + round, at(now)));
            }
            abandoned.answered(Some(100 * MILLI), at(now));
        }
        let mut silence = 0;
        loop {
            (now, silence) = (now + 100, silence + 1);
            if abandoned.left(at(now - 1_000), || 2_100, at(now)) {
                break;
            }
        }
        assert!((180..=200).contains(&silence), "{silence}");
    }

    #[test]
    fn with_no_success_known_it_takes_thirty_calls_and_ten_seconds() {
        let abandoned = Abandoned::new(false);
        for n in 0..1_000 {
            assert!(!left(&abandoned, 1_000 + n, 1_999 + n), "before a second");
        }
        for n in 0..100 {
            assert!(!left(&abandoned, 10_000 + n * 50, 11_000 + n * 50));
        }
        assert!(left(&abandoned, 19_003, 20_003));
        assert_eq!(abandoned.is_late(u64::MAX), None);
        let abandoned = Abandoned::new(false);
        let opens = (0..30).map(|n| left(&abandoned, 10_000 + n * 2_000, 11_000 + n * 2_000));
        assert_eq!(opens.filter(|opens| *opens).count(), 1, "the last");
    }

    #[test]
    fn the_usual_time_is_sampled_four_times_a_second_and_follows_slowly() {
        let abandoned = warm();
        assert_eq!(abandoned.usual(), Some(100 * MILLI));
        for n in 0..100 {
            let now = at(10_000 + n);
            if abandoned.is_due(true, now) {
                abandoned.answered(Some(10_000 * MILLI), now);
            }
        }
        let after = abandoned.usual().unwrap();
        assert_eq!(after, (11 * 100 + 10_000) * MILLI / 12, "one sample");
        for n in 0..800 {
            let now = at(20_000 + n * 250);
            assert!(abandoned.is_due(true, now));
            abandoned.answered(Some(400 * MILLI), now);
            assert!(!abandoned.is_due(true, at(20_000 + n * 250 + 249)));
        }
        let after = abandoned.usual().unwrap();
        assert!((390 * MILLI..=410 * MILLI).contains(&after), "{after}");
    }

    #[test]
    fn no_time_and_no_count_overflows() {
        let abandoned = Abandoned::new(true);
        for now in [0, 1, u64::MAX - 1, u64::MAX, 5] {
            let now = Time(now);
            for took in [None, Some(0), Some(u64::MAX)] {
                abandoned.answered(took, now);
                abandoned.left(Time(0), || u64::MAX, now);
                abandoned.left(now, || 0, now);
            }
        }
        abandoned.silence.store(COUNT | COUNT << 30, Relaxed);
        abandoned.left(Time(0), || 0, Time(u64::MAX));
        assert_eq!(abandoned.silence.load(Relaxed), COUNT | COUNT << 30);
    }
}
