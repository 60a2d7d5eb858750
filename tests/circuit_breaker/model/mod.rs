//! The breaker against a model that keeps a list of all calls, over random histories.
//!
//! The model is written from the documentation, the slow way: nothing is summed up, shared or
//! packed, and every rule is looked at whenever a call ends.

mod compare;
mod histories;
mod window;

use buttress::{
    CircuitBreaker, Kind, Outcome, Rejected, Time,
    circuit_breaker::{Mode, State},
    guard::End,
};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Config {
    window: Result<Duration, usize>,
    failure_rate: Option<f64>,
    consecutive: Option<u32>,
    slow_rate: Option<f64>,
    minimum: u32,
    growth: f64,
    probes: u32,
    needed: u32,
    observe: bool,
}

const SLOW: Duration = Duration::from_millis(80);
const EIGHTH: u64 = 10_000_000;
const OPEN: Duration = Duration::from_millis(300);
const MAX_OPEN: Duration = Duration::from_millis(1_000);
const LEASE: Duration = Duration::from_millis(200);
/// How far apart probes begin, once eight in a row have said nothing.
const APART: Duration = Duration::from_millis(250);

impl Config {
    fn build(&self) -> CircuitBreaker {
        let mut builder = CircuitBreaker::builder("model")
            .minimum_calls(self.minimum)
            .slow_call_duration(SLOW)
            .open_for(OPEN)
            .max_open_for(MAX_OPEN)
            .open_growth(self.growth)
            .open_jitter(0.0)
            .abandoned_after(SLOW)
            .probes(self.probes)
            .probe_success_ratio(f64::from(self.needed) / f64::from(self.probes))
            .probe_timeout(LEASE)
            .observe_only(self.observe);
        builder = match self.window {
            Ok(window) => builder.window(window),
            Err(calls) => builder.count_window(calls),
        };
        builder = match self.failure_rate {
            Some(rate) => builder.failure_rate(rate),
            None => builder.without_failure_rate(),
        };
        builder = match self.consecutive {
            Some(failures) => builder.consecutive_failures(failures),
            None => builder.without_consecutive_failures(),
        };
        if let Some(rate) = self.slow_rate {
            builder = builder.slow_call_rate(rate);
        }
        builder.build().unwrap()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Closed,
    Open(Time),
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

/// A call that is running.
#[derive(Debug)]
struct Running {
    id: u64,
    epoch: u64,
    phase: Phase,
    /// It would have been rejected.
    shadow: bool,
    began: Option<Time>,
    polled: bool,
}

#[derive(Debug)]
struct Ended {
    at: Time,
    failed: bool,
    slow: bool,
}

#[derive(Debug, Default)]
struct Row {
    not_before: Time,
    nothing: u32,
    asked_until: Option<Time>,
    unreached_since: Option<Time>,
}

#[derive(Debug)]
struct Model {
    config: Config,
    phase: Phase,
    epoch: u64,
    observing: bool,
    running: Vec<Running>,
    ended: Vec<Ended>,
    in_a_row: u64,
    relapses: u32,
    hint: Time,
    /// Running probes, by the call.
    leases: Vec<(u64, Time)>,
    probe_results: Vec<bool>,
    /// What probes in a row said that say nothing alone.
    row: Row,
    /// The eighth and the epoch in which the rates were last looked at.
    looked: Option<(u64, u64)>,
    next_id: u64,
    trips: u64,
    rejected: u64,
    would_reject: u64,
    totals: [u64; 3],
}

impl Model {
    fn new(config: Config) -> Self {
        Self {
            observing: config.observe,
            config,
            phase: Phase::Closed,
            epoch: 0,
            running: Vec::new(),
            ended: Vec::new(),
            in_a_row: 0,
            relapses: 0,
            hint: Time::from_nanos(0),
            leases: Vec::new(),
            probe_results: Vec::new(),
            row: Row::default(),
            looked: None,
            next_id: 0,
            trips: 0,
            rejected: 0,
            would_reject: 0,
            totals: [0; 3],
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }

    fn close(&mut self, phase: Phase) {
        self.ended.clear();
        (self.in_a_row, self.relapses) = (0, 0);
        self.enter(phase);
    }

    fn open(&mut self, now: Time) {
        self.trips += 1;
        let factor = self.config.growth.powi(self.relapses as i32);
        let time = OPEN.mul_f64(factor).min(MAX_OPEN);
        self.enter(Phase::Open(now.after(time).max(self.hint)));
    }

    fn state(&self, now: Time) -> State {
        match self.phase {
            Phase::Closed | Phase::ForcedClosed => State::Closed,
            Phase::Open(until) if now < until => State::Open,
            Phase::Open(_) | Phase::HalfOpen => State::HalfOpen,
            Phase::ForcedOpen => State::Open,
        }
    }

    fn in_flight_slow(&self, now: Time) -> u64 {
        let slow = |call: &&Running| {
            let began = call.began.filter(|_| call.phase == Phase::Closed);
            call.epoch == self.epoch
                && began.is_some_and(|b| now.as_nanos() / EIGHTH - b.as_nanos() / EIGHTH >= 9)
        };
        match self.config.slow_rate {
            Some(_) => self.running.iter().filter(slow).count() as u64,
            None => 0,
        }
    }

    fn look(&mut self, now: Time) {
        if self.phase != Phase::Closed {
            return;
        }
        self.looked = Some((now.as_nanos() / EIGHTH, self.epoch));
        let (calls, failures, slow) = self.rated(now);
        let late = self.in_flight_slow(now);
        // Calls that hang are not outvoted by what was well before.
        let plain = self.counts(now);
        let minimum = u64::from(self.config.minimum);
        let reached = |limit: Option<f64>, part: u64, calls: u64| {
            calls >= minimum && limit.is_some_and(|rate| part as f64 / calls as f64 >= rate)
        };
        let row = self.config.consecutive;
        if row.is_some_and(|row| self.in_a_row >= u64::from(row))
            || reached(self.config.failure_rate, failures, calls)
            || reached(self.config.slow_rate, slow + late, calls + late)
            || late > 0 && reached(self.config.slow_rate, plain.2 + late, plain.0 + late)
        {
            self.relapses = 0;
            self.open(now);
        }
    }

    fn start(&mut self, polled: bool, now: Time) -> Result<(), Rejected> {
        let rejected = Rejected::new(Kind::CircuitOpen, "model");
        let id = self.next_id;
        self.next_id += 1;
        let mut refusal = None;
        match self.phase {
            Phase::Closed | Phase::ForcedClosed => {}
            Phase::ForcedOpen => {
                self.rejected += 1;
                return Err(rejected);
            }
            Phase::Open(until) if now < until => refusal = Some(until.since(now)),
            Phase::Open(_) => {
                self.leases.clear();
                self.probe_results.clear();
                self.row = Row::default();
                self.enter(Phase::HalfOpen);
            }
            Phase::HalfOpen => {}
        }
        if self.phase == Phase::HalfOpen {
            let running = self.leases.len();
            self.leases.retain(|(_, began)| now.since(*began) < LEASE);
            if self.leases.len() < running {
                self.row.unreached_since = None;
            }
            if self.leases.len() + self.probe_results.len() < self.config.probes as usize {
                if now >= self.row.not_before {
                    self.leases.push((id, now));
                } else {
                    refusal = Some(self.row.not_before.since(now));
                }
            } else {
                let eldest = self.leases.iter().map(|(_, began)| *began).min().unwrap();
                let healthy = eldest.after(SLOW);
                let next = if now < healthy {
                    healthy
                } else {
                    eldest.after(LEASE)
                };
                refusal = Some(next.since(now));
            }
        }
        if let Some(after) = refusal {
            if !self.observing {
                self.rejected += 1;
                return Err(rejected.with_retry_after(after));
            }
            self.would_reject += 1;
        }
        // A probe's start is known, and so is that of a call that would have been rejected.
        let timed = self.phase == Phase::HalfOpen || refusal.is_some();
        self.running.push(Running {
            id,
            epoch: self.epoch,
            phase: self.phase,
            shadow: refusal.is_some(),
            began: (polled || timed).then_some(now),
            polled,
        });
        // While calls are running the rates are looked at once in an eighth of the slow duration.
        let this = Some((now.as_nanos() / EIGHTH, self.epoch));
        if polled && self.config.slow_rate.is_some() && self.looked != this {
            self.look(now);
        }
        Ok(())
    }

    fn end(&mut self, which: usize, end: End, now: Time) {
        let call = self.running.remove(which);
        let slow = call.began.is_some_and(|began| now.since(began) >= SLOW);
        let failed = match end {
            End::Done(Outcome::Success) => Some(false),
            End::Done(Outcome::Failure) | End::Panicked | End::TimedOut => Some(true),
            End::Cancelled if slow => Some(true),
            End::Done(Outcome::Overloaded { retry_after }) => {
                if let Some(after) = retry_after {
                    self.hint = now.after(after.min(MAX_OPEN));
                }
                None
            }
            _ => None,
        };
        if let Some(failed) = failed {
            self.totals[usize::from(failed)] += 1;
            self.totals[2] += u64::from(slow);
        }
        if call.shadow || call.epoch != self.epoch {
            return;
        }
        if self.phase == Phase::HalfOpen {
            let dragged = slow && self.config.slow_rate.is_some();
            let result = match end {
                End::Done(Outcome::Ignored) => Some(!dragged),
                _ => failed.map(|failed| !failed && !dragged),
            };
            if result == Some(true) {
                self.hint = Time::from_nanos(0);
            }
            let Some(at) = self.leases.iter().position(|(id, _)| *id == call.id) else {
                return;
            };
            let (_, began) = self.leases.remove(at);
            if now.since(began) < LEASE {
                // A load shed further in refuses at once: the dependency has not been asked.
                let shed = end == End::Done(Outcome::Overloaded { retry_after: None });
                let end = match shed && !call.polled {
                    true => End::NeverStarted,
                    false => end,
                };
                if self.end_in_row(end, result, began, now) {
                    self.close(Phase::Closed);
                    self.hint = Time::from_nanos(0);
                    return;
                }
            } else {
                self.row.unreached_since = None;
            }
            let well = self.probe_results.iter().filter(|well| **well).count() as u32;
            let unwell = self.probe_results.len() as u32 - well;
            if well >= self.config.needed {
                self.close(Phase::Closed);
                self.hint = Time::from_nanos(0);
            } else if unwell > self.config.probes - self.config.needed {
                self.relapses += 1;
                self.open(now);
            }
        } else if let Some(failed) = failed {
            self.ended.push(Ended {
                at: now,
                failed,
                slow,
            });
            self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
            if !failed {
                self.hint = Time::from_nanos(0);
            }
            self.look(now);
        }
    }

    /// Ends a probe that had a lease. True if it closes, though nothing was said of how it is.
    fn end_in_row(&mut self, end: End, result: Option<bool>, began: Time, now: Time) -> bool {
        let unreached = matches!(end, End::NeverStarted | End::Done(Outcome::Refused));
        if !unreached {
            self.row.unreached_since = None;
        }
        if let Some(well) = result {
            (self.row.nothing, self.row.asked_until) = (0, None);
            self.probe_results.push(well);
            return false;
        }
        if let End::Done(Outcome::Overloaded { .. }) = end {
            self.row.nothing = 0;
            if self.row.asked_until.is_some_and(|until| began >= until) {
                return true;
            }
            // At least a second, and no longer than the longest open time, which is a second here.
            let until = now.after(MAX_OPEN);
            self.row.asked_until = self.row.asked_until.max(Some(until));
            self.row.not_before = self.row.not_before.max(until);
            return false;
        }
        self.row.nothing += 1;
        if self.row.nothing >= 8 {
            self.row.not_before = self.row.not_before.max(began.after(APART));
        }
        let since = match unreached {
            true => *self.row.unreached_since.get_or_insert(began),
            false => now,
        };
        unreached && now.since(since) >= MAX_OPEN
    }
}
