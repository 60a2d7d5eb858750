//! Feeds the rule of a limit that changes: what is seen of calls, and when a window is over.

use super::{
    gate::Gate,
    limit::{Limit, NextWindow, SampleWindow, WindowProgress},
    permit::{Permit, Timing},
    samples::{Done, ONE_IN, Samples, between},
    stripes::MAX_LIMIT,
};
use crate::{
    classify::Outcome,
    clock::{Now, Time, nanos},
    guard::End,
    shared::Padded,
};
use std::{
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// The soonest that a window is looked at again which was not over yet.
const SOON: u64 = 500_000;
/// How long a call took that was not suspended, if that is all that is known.
const AT_ONCE: u64 = 1_000;

/// The limit of one load shed, if it changes: its rule, and what is seen of calls.
#[derive(Debug)]
pub(super) struct LimitControl {
    samples: Samples,
    peak: Padded<AtomicUsize>,
    times: Padded<Times>,
    open: Mutex<Open>,
}

/// Written once per window (`due` a few times), read at every end. In nanoseconds.
#[derive(Debug, Default)]
struct Times {
    /// When the window began, and from when on it may be over.
    began: AtomicU64,
    due: AtomicU64,
    /// See [`NextWindow`].
    short: AtomicU64,
    long: AtomicU64,
}

/// The window that has not closed.
#[derive(Debug)]
struct Open {
    rule: Box<dyn Limit>,
    close: NextWindow,
    began: Option<Began>,
    done: Done,
}

/// What was so when it began.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: Time,
    limit: usize,
    integral: u64,
    arrived: u64,
    blocked: u64,
}

impl LimitControl {
    pub(super) fn new(rule: Box<dyn Limit>, stripes: usize) -> Self {
        let close = rule.close();
        Self {
            samples: Samples::new(stripes),
            peak: Padded::default(),
            times: Padded::default(),
            open: Mutex::new(Open {
                rule,
                close,
                began: None,
                done: Done::default(),
            }),
        }
    }

    /// Makes the permit of a call that begins. Of those that end at once only some are timed, so
    /// that the others need not read the clock.
    #[inline]
    pub(super) fn admitted(count: u32, now: &Now) -> Permit {
        match count % ONE_IN {
            0 => Permit::new(now.get(), Timing::Sampled),
            _ => Permit::UNTIMED,
        }
    }

    /// Makes the permit of a call that may begin long after it was reserved.
    #[inline]
    pub(super) fn reserved(count: u32) -> Permit {
        match count % ONE_IN {
            0 => Permit::new(Time(0), Timing::Reserved),
            _ => Permit::UNTIMED,
        }
    }

    /// Counts a call that has not ended at its first poll among those in flight.
    pub(super) fn on_pending(&self, permit: &mut Permit, slot: usize, now: &Now, gate: &Gate) {
        let start = match permit.timing() {
            Timing::Untimed | Timing::Reserved | Timing::HeldBack => now.get(),
            Timing::Timed | Timing::Sampled | Timing::InFlight => permit.start(),
            // Counted when the wait is over.
            Timing::Waiting => return,
        };
        *permit = Permit::new(start, Timing::InFlight);
        let look = self.samples.of(slot).begin(permit.start());
        if look {
            self.peak(gate.in_flight());
        }
    }

    /// Counts a call no longer among those in flight while it is in a wait of another policy.
    #[cold]
    pub(super) fn on_wait_begin(&self, permit: &mut Permit, slot: usize, now: Time) {
        if permit.timing() == Timing::InFlight {
            self.samples.of(slot).end(now);
            *permit = Permit::new(permit.start(), Timing::Waiting);
        }
    }

    /// Counts it again after the wait, which is left out of its time.
    #[cold]
    pub(super) fn on_wait_end(
        &self,
        permit: &mut Permit,
        waited: Duration,
        slot: usize,
        now: Time,
    ) {
        let timing = match permit.timing() {
            Timing::Untimed | Timing::Reserved | Timing::HeldBack => return,
            Timing::Waiting => {
                self.samples.of(slot).go_on(now);
                Timing::InFlight
            }
            timing @ (Timing::Timed | Timing::Sampled | Timing::InFlight) => timing,
        };
        let before = permit.start();
        let start = before.after(waited).min(now).max(before);
        *permit = Permit::new(start, timing);
    }

    /// Remembers the most calls in flight at once.
    fn peak(&self, in_flight: usize) {
        if self.peak.0.load(Relaxed) < in_flight {
            self.peak.0.fetch_max(in_flight, Relaxed);
        }
    }

    /// Learns from the end of a call. Returns whether the window may be over.
    #[inline]
    pub(super) fn ended(&self, permit: &Permit, end: End, slot: usize, now: &Now) -> bool {
        match permit.timing() {
            Timing::Untimed => {
                // Refusals are rare and tell the most: each counts, timed or not.
                if let End::Done(Outcome::Overloaded { .. }) = end {
                    self.samples.of(slot).done().overloaded += 1;
                }
                false
            }
            Timing::Timed | Timing::Sampled | Timing::InFlight | Timing::Waiting => {
                self.ended_at(permit, end, slot, now.get())
            }
            Timing::Reserved => self.ended_at_once(Timing::Sampled, end, slot, now.get()),
            Timing::HeldBack => self.ended_at_once(Timing::Timed, end, slot, now.get()),
        }
    }

    /// Learns from the end of a call that was not timed, and not in flight.
    fn ended_at_once(&self, timing: Timing, end: End, slot: usize, now: Time) -> bool {
        let start = Time(now.0.saturating_sub(AT_ONCE));
        self.ended_at(&Permit::new(start, timing), end, slot, now)
    }

    fn ended_at(&self, permit: &Permit, end: End, slot: usize, now: Time) -> bool {
        let times = &self.times.0;
        let took = now.0.saturating_sub(permit.start().0);
        let seconds = took as f64 * 1e-9;
        let left_out = match end {
            End::NeverStarted | End::RequestFailed | End::Done(Outcome::Refused) => true,
            End::Cancelled | End::Panicked => took < times.short.load(Relaxed),
            End::Done(_) | End::TimedOut => false,
        };
        let mut samples = self.samples.of(slot);
        let weight = match permit.timing() {
            Timing::Timed | Timing::Sampled => {
                let weight = permit.weight();
                if !left_out {
                    samples.done().aside += f64::from(weight) * seconds;
                }
                weight
            }
            // Taken out when the wait began.
            Timing::Waiting => 1,
            Timing::InFlight | Timing::Untimed | Timing::Reserved | Timing::HeldBack => {
                debug_assert_eq!(permit.timing(), Timing::InFlight, "nobody knows its start");
                // As if it had ended before the window began: then its time is not in it. Too early
                // for one that has waited in this window and came before it: by what it had of its
                // time then, at most by its wait. A permit has room for one time only.
                let began = Time(times.began.load(Relaxed)).max(permit.start());
                samples.end(if left_out { began } else { now });
                1
            }
        };
        let done = samples.done();
        match end {
            _ if left_out => {}
            End::Done(Outcome::Overloaded { .. }) => done.overloaded += 1,
            End::Done(Outcome::Failure) if took > times.long.load(Relaxed) => done.lost += 1,
            End::Done(_) => done.complete(weight, seconds),
            End::TimedOut
            | End::Cancelled
            | End::Panicked
            | End::RequestFailed
            | End::NeverStarted => done.lost += 1,
        }
        drop(samples);
        self.is_due(now)
    }

    /// Returns whether the window may be over.
    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        let times = &self.times.0;
        // A clock that was set back would otherwise keep a window open until it has caught up.
        now.0 >= times.due.load(Relaxed) || now.0 < times.began.load(Relaxed)
    }

    /// Closes the window if it is over. `rejected` is how many calls have found no permit and did
    /// not wait.
    #[cold]
    pub(super) fn look(&self, gate: &Gate, rejected: impl FnOnce() -> u64, slot: usize, now: Time) {
        let mut open = match self.open.try_lock() {
            Ok(open) => open,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Someone else is looking.
            Err(TryLockError::WouldBlock) => return,
        };
        if self.close(&mut open, gate, rejected, now) {
            drop(open);
            gate.attend(slot, now);
        }
    }

    /// Closes the window if it is over. Returns whether the limit was changed.
    fn close(
        &self,
        open: &mut Open,
        gate: &Gate,
        rejected: impl FnOnce() -> u64,
        now: Time,
    ) -> bool {
        let (done, integral) = self.samples.fold(now);
        open.done.add(done);
        let counts = gate.counts();
        let rejected = rejected();
        let next = Began {
            at: now,
            limit: counts.limit,
            integral,
            blocked: counts.joined + rejected,
            arrived: (counts.admitted + counts.joined + rejected).saturating_sub(counts.granted),
        };
        self.peak(counts.in_flight);
        let began = match open.began {
            Some(began) if began.at <= now => began,
            _ => {
                self.begin(open, next, counts.in_flight);
                return false;
            }
        };
        let blocked = next.blocked.saturating_sub(began.blocked);
        let peak = match blocked {
            0 => self.peak.0.load(Relaxed),
            _ => self.peak.0.load(Relaxed).max(began.limit),
        };
        let so_far = WindowProgress {
            elapsed: now.since(began.at),
            ends: open.done.ends(),
            in_flight: counts.in_flight,
            peak_in_flight: peak,
            limit: counts.limit,
        };
        if !open.close.is_over(&so_far) {
            let due = due_again(&open.close, &so_far, now);
            self.times.0.due.store(due.0, Relaxed);
            return false;
        }
        let window = window(&open.done, began, next, peak, counts.in_flight);
        let limit = open.rule.on_window(&window, now).clamp(1, MAX_LIMIT);
        open.close = open.rule.close();
        let next = Began { limit, ..next };
        self.begin(open, next, counts.in_flight);
        if limit != counts.limit {
            gate.set_limit(limit);
        }
        limit != counts.limit
    }

    fn begin(&self, open: &mut Open, began: Began, in_flight: usize) {
        open.began = Some(began);
        open.done = Done::default();
        self.peak.0.store(in_flight, Relaxed);
        let (times, close) = (&self.times.0, &open.close);
        times.short.store(nanos(close.short), Relaxed);
        times.long.store(nanos(close.long), Relaxed);
        times.began.store(began.at.0, Relaxed);
        let min = match close.drained {
            Some(_) => Duration::ZERO,
            None => close.min.min(close.max),
        };
        times.due.store(began.at.after(min).0, Relaxed);
    }
}

/// Returns when to look again: half-way to when it seems to be over, so that a few looks are enough
/// and none is late by much.
fn due_again(close: &NextWindow, so_far: &WindowProgress, now: Time) -> Time {
    if close.drained.is_some() {
        return now;
    }
    let elapsed = nanos(so_far.elapsed);
    let turnover = so_far.limit.min(so_far.peak_in_flight) as u64;
    let target = close.ends.max(turnover).max(1);
    let missing = target.saturating_sub(so_far.ends) as f64 / so_far.ends.max(1) as f64;
    let by_ends = (elapsed as f64 * missing) as u64 / 2;
    let by_min = nanos(close.min).saturating_sub(elapsed);
    let by_max = nanos(close.max).saturating_sub(elapsed);
    let wait = match by_max {
        0 => SOON,
        // Not much later either: traffic may come to life at any moment.
        by_max => (by_ends.min(nanos(close.min) / 4).max(by_min))
            .min(by_max)
            .max(SOON),
    };
    Time(now.0.saturating_add(wait))
}

fn window(done: &Done, began: Began, ended: Began, peak: usize, in_flight: usize) -> SampleWindow {
    let blocked = ended.blocked.saturating_sub(began.blocked);
    let arrived = ended.arrived.saturating_sub(began.arrived);
    let integral = between(began.integral, ended.integral) + done.aside;
    SampleWindow {
        ended: ended.at,
        completions: done.completions,
        overloaded: done.overloaded,
        lost: done.lost,
        in_flight_integral: integral.max(0.0),
        latency_sum: done.sum,
        latency_squares: done.squares,
        latency_min: done.min,
        peak_in_flight: peak,
        // Arrivals at random see averages over time.
        saturated_share: match arrived {
            0 => f64::from(u8::from(in_flight >= began.limit)),
            _ => (blocked as f64 / arrived as f64).min(1.0),
        },
        used: blocked > 0,
        ..SampleWindow::starting(began.at, began.limit)
    }
}
