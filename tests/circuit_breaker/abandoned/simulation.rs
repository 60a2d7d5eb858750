//! A discrete-event simulation of calls through a breaker.

use buttress::{
    CircuitBreaker, Guard, GuardBase, Now, Outcome, Time,
    circuit_breaker::{Permit, State},
    guard::{Admission, End},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Dice: the same ones every time.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number from 0 to below 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub(super) fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// A time of this mean, exponential.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// How long a service takes that usually takes so long: never less than half of it.
    pub(super) fn service(&mut self, usual: f64) -> f64 {
        usual / 2.0 + self.exponential(usual / 2.0)
    }
}

/// How long the service would take for a call, and how long its caller waits, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) service: f64,
    pub(super) patience: f64,
}

/// Never.
pub(super) const NEVER: f64 = f64::INFINITY;

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// When the breaker first opened, in seconds.
    pub(super) opened: Option<f64>,
    /// When a call was first answered after that.
    pub(super) answered: Option<f64>,
    /// How many calls were let in after it had opened.
    pub(super) let_in_after: u64,
}

/// Lets calls arrive, so many a second at random, for so many seconds. `fate` is asked at what
/// second a call arrives, and what becomes of it.
pub(super) fn run(
    breaker: &CircuitBreaker,
    (rate, seconds, seed): (f64, f64, u64),
    stop_when_open: bool,
    fate: impl Fn(f64, &mut Dice) -> Fate,
) -> Course {
    let mut dice = Dice::new(seed);
    let transitions = breaker.transitions();
    let mut course = Course::default();
    let mut running: BTreeMap<u64, (Permit, End)> = BTreeMap::new();
    let mut ends = BinaryHeap::new();
    let (mut next, mut id) = (dice.exponential(1.0 / rate), 0);
    let time = |second: f64| Time::from_nanos(1_000_000_000_000 + (second * 1e9) as u64);
    loop {
        let arrival = time(next).as_nanos();
        match ends.peek() {
            Some(Reverse((at, call))) if *at <= arrival => {
                let (at, call) = (*at, *call);
                ends.pop();
                let (permit, end) = running.remove(&call).unwrap();
                let now = Now::at(Time::from_nanos(at));
                breaker.settle(permit, end, &now);
                let second = (at - time(0.0).as_nanos()) as f64 / 1e9;
                let answered = end == End::Done(Outcome::Success);
                if course.opened.is_some() && answered && course.answered.is_none() {
                    course.answered = Some(second);
                }
                if course.opened.is_none() && transitions.borrow().to == State::Open {
                    course.opened = Some(second);
                }
                if stop_when_open && course.opened.is_some() {
                    return course;
                }
            }
            _ if next > seconds => return course,
            _ => {
                let Fate { service, patience } = fate(next, &mut dice);
                let now = Now::at(Time::from_nanos(arrival));
                if let Admission::Admitted(mut permit) = breaker.admit(&(), &now) {
                    course.let_in_after += u64::from(course.opened.is_some());
                    breaker.on_pending(&mut permit, &now);
                    let end = match service <= patience {
                        true => End::Done(Outcome::Success),
                        false => End::Cancelled,
                    };
                    let until = next + service.min(patience);
                    if until.is_finite() {
                        running.insert(id, (permit, end));
                        ends.push(Reverse((time(until).as_nanos(), id)));
                    }
                    id += 1;
                }
                next += dice.exponential(1.0 / rate);
            }
        }
    }
}
