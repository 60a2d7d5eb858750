//! The breaker: what a call passes on its way in and out.
//!
//! Most calls read the circuit's word and nothing else on their way in. Permits carry that word,
//! and with it the epoch; what ends in a later one teaches nothing.

use super::{
    circuit::{Circuit, PendingTransition, ProbeAdmission, ramp_share},
    config::Config,
    failure_row::{FailureRow, WATCH},
    inflight::InFlight,
    phase::{CircuitWord, Phase},
    shared_circuit::SharedCircuit,
    snapshot::{Reason, Snapshot},
    totals::Totals,
    verdict::{CallVerdict, RateVerdict},
    window::Window,
};
use crate::{
    classify::Outcome,
    clock::{Now, Time},
    error::{Kind, Rejected},
    guard::End,
    shared::Padded,
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) circuit: SharedCircuit,
    /// Failures since the last success, and [`WATCH`]. Nearly always zero, and then never written.
    consecutive_failures: Padded<FailureRow>,
    window: Window,
    totals: Totals,
    in_flight: Option<InFlight>,
    pub(super) cfg: Arc<Config>,
}

/// What a call that a breaker has admitted holds until it ends.
#[derive(Debug)]
pub struct Permit {
    word: CircuitWord,
    /// When the call began; 0 if nobody has asked yet.
    began: u64,
    /// A probe's lease; with which thread's index a running call was counted, and 1; else 0.
    place: u64,
}

impl Breaker {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(cfg: Arc<Config>, stripes: usize) -> Self {
        Self {
            circuit: SharedCircuit::new(&cfg),
            consecutive_failures: Padded::default(),
            window: Window::new(cfg.size, stripes),
            totals: Totals::new(stripes),
            in_flight: cfg.slow_rate.map(|_| InFlight::new(cfg.slow, stripes)),
            cfg,
        }
    }

    #[inline]
    pub(super) fn admit(&self, now: &Now) -> Result<Permit, Rejected> {
        let word = self.circuit.word();
        if word.is(Phase::Closed) {
            return Ok(Permit::new(word, now.peek()));
        }
        // Taken apart, so that the fast path need not put its permit where a call can write to it.
        match self.admit_unless_open(word, now) {
            Ok(Permit { word, began, place }) => Ok(Permit { word, began, place }),
            Err(rejected) => Err(rejected),
        }
    }

    #[inline(never)]
    fn admit_unless_open(&self, word: CircuitWord, now: &Now) -> Result<Permit, Rejected> {
        match word.phase() {
            Phase::Open => {
                let time = now.get();
                let until = self.circuit.until();
                match time < until {
                    true => self.refuse(word, Some(until.since(time)), time),
                    false => self.probe(time),
                }
            }
            Phase::HalfOpen => self.probe(now.get()),
            Phase::ForcedOpen => {
                self.totals.own().rejected.fetch_add(1, Relaxed);
                Err(Rejected::new(Kind::CircuitOpen, self.cfg.name))
            }
            Phase::Ramp => {
                let time = now.get();
                let left = self.circuit.until().since(time);
                if left.is_zero() {
                    self.end_ramp(word);
                } else if self.cfg.dice.unit() >= ramp_share(&self.cfg, left) {
                    return self.refuse(word, Some(left), time);
                }
                Ok(Permit::new(word, Some(time)))
            }
            Phase::Closed | Phase::ForcedClosed => Ok(Permit::new(word, now.peek())),
        }
    }

    /// Rejects the call; an observing breaker lets it in, and will not learn from it.
    fn refuse(
        &self,
        word: CircuitWord,
        retry_after: Option<Duration>,
        now: Time,
    ) -> Result<Permit, Rejected> {
        if word.is_observing() {
            self.totals.own().would_reject.fetch_add(1, Relaxed);
            return Ok(Permit::new(CircuitWord::IGNORED, Some(now)));
        }
        self.totals.own().rejected.fetch_add(1, Relaxed);
        let rejected = Rejected::new(Kind::CircuitOpen, self.cfg.name);
        Err(match retry_after {
            Some(after) => rejected.with_retry_after(after),
            None => rejected,
        })
    }

    #[cold]
    fn probe(&self, now: Time) -> Result<Permit, Rejected> {
        let (word, admission) = self.circuit.change(|circuit| {
            let (admission, pending) = circuit.begin_probe(&self.cfg, now);
            ((circuit.word(), admission), pending)
        });
        match admission {
            ProbeAdmission::Admitted { lease } => Ok(Permit {
                place: lease,
                ..Permit::new(word, Some(now))
            }),
            ProbeAdmission::Refused { retry_after } => self.refuse(word, Some(retry_after), now),
            // It was closed or forced while we looked.
            ProbeAdmission::OtherPhase => self.admit(&Now::at(now)),
        }
    }

    #[cold]
    fn end_ramp(&self, seen: CircuitWord) {
        self.circuit.transition(|circuit| circuit.end_ramp(seen));
    }

    #[inline]
    pub(super) fn on_pending(&self, permit: &mut Permit, now: &Now) {
        if permit.began == 0 {
            permit.began = now.get().0.max(1);
        }
        if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && permit.place == 0
            && let Some(index) = in_flight.enter(permit.word.epoch(), Time(permit.began), now.get())
        {
            permit.place = index as u64 + 1;
            if self.first_look(permit.word, now.get()) {
                self.judge(permit.word, now.get());
            }
        }
    }

    /// Leaves out of a call's time what it spent in waits of other policies.
    #[cold]
    pub(super) fn on_wait(&self, permit: &mut Permit, waited: Duration, now: &Now) {
        if permit.began == 0 {
            return;
        }
        let (before, now) = (permit.began, now.get());
        permit.began = Time(before).after(waited).0.min(now.0).max(before);
        if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && let Some(index) = permit.place.checked_sub(1)
        {
            let epoch = permit.word.epoch();
            in_flight.leave(index as usize, epoch, Time(before));
            permit.place = in_flight
                .enter(epoch, Time(permit.began), now)
                .map_or(0, |index| index as u64 + 1);
        }
    }

    #[inline]
    pub(super) fn settle(&self, permit: Permit, end: End, now: &Now) {
        let word = self.circuit.word();
        if end == End::Done(Outcome::Success)
            && permit.place == 0
            && word.epoch() == permit.word.epoch()
            && word.is(Phase::Closed)
            && let Window::Time(window) = &self.window
            && !self.was_slow(&permit, now)
        {
            // Earlier calls may have left the window with this one, so that a rate is reached
            // without a failure.
            let turned =
                window.add(false, &self.totals, now.get()) | self.first_look(word, now.get());
            if turned || self.consecutive_failures.0.count.load(Relaxed) != 0 {
                self.reevaluate(word, now.get());
            }
            return;
        }
        self.settle_other(permit, end, now);
    }

    /// Learns that the service failed to become ready: a failure, and while probes are to decide, a
    /// probe that failed.
    #[cold]
    pub(super) fn ready_failed(&self, now: &Now) {
        let time = now.get();
        let (word, place) = self.circuit.change(|circuit| {
            let word = circuit.word();
            match circuit.begin_probe(&self.cfg, time) {
                (ProbeAdmission::Admitted { lease }, pending) => ((circuit.word(), lease), pending),
                (_, pending) => ((word, 0), pending),
            }
        });
        if place == 0 && !word.can_trip() && !word.is(Phase::ForcedClosed) {
            return self.count_only(CallVerdict::Unwell);
        }
        let permit = Permit {
            place,
            ..Permit::new(word, Some(time))
        };
        self.settle(permit, End::Done(Outcome::Failure), now);
    }

    #[inline]
    fn first_look(&self, word: CircuitWord, now: Time) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|calls| calls.first_look(word.epoch(), now))
    }

    #[inline]
    fn was_slow(&self, permit: &Permit, now: &Now) -> bool {
        permit.began != 0 && now.get().0.saturating_sub(permit.began) >= self.cfg.slow
    }

    fn settle_other(&self, permit: Permit, end: End, now: &Now) {
        if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && let Some(index) = permit.place.checked_sub(1)
        {
            in_flight.leave(index as usize, permit.word.epoch(), Time(permit.began));
        }
        if let End::Done(Outcome::Overloaded { retry_after }) = end
            && let Some(after) = retry_after
        {
            self.record_retry_after(after, now.get());
        }
        let verdict = CallVerdict::of(end, || self.was_slow(&permit, now));
        let probe = permit.word.is(Phase::HalfOpen);
        if verdict == CallVerdict::Nothing && !probe {
            return;
        }
        let slow = self.was_slow(&permit, now);
        if slow && verdict != CallVerdict::Nothing {
            self.totals.own().slow.fetch_add(1, Relaxed);
        }
        let word = self.circuit.word();
        if probe {
            self.count_only(verdict);
            self.end_probe(&permit, verdict, slow, now.get());
        } else if word.epoch() != permit.word.epoch() {
            self.count_only(verdict);
        } else {
            self.learn(word, verdict == CallVerdict::Unwell, slow, now.get());
        }
    }

    fn end_probe(&self, permit: &Permit, verdict: CallVerdict, slow: bool, now: Time) {
        let well = match verdict {
            CallVerdict::Well => Some(!(slow && self.cfg.slow_rate.is_some())),
            CallVerdict::Unwell => Some(false),
            CallVerdict::Nothing => None,
        };
        let probe = (permit.word, permit.place);
        self.circuit.transition(|circuit| {
            let not_before = self.circuit.not_before();
            let pending = circuit.end_probe(probe, well, not_before, &self.cfg, now);
            if pending.closes() {
                self.forget();
            }
            pending
        });
    }

    /// Learns from a call of this epoch that ended.
    fn learn(&self, word: CircuitWord, failed: bool, slow: bool, now: Time) {
        let turned = self.window.add(failed, slow, &self.totals, now);
        let turned = turned | self.first_look(word, now);
        if !failed {
            if turned || slow || self.consecutive_failures.0.count.load(Relaxed) != 0 {
                self.reevaluate(word, now);
            }
            return;
        }
        let failures = self.consecutive_failures.0.add(self.cfg.row_within, now);
        if word.is(Phase::Ramp) && self.halve_share(word, now) {
            return;
        }
        match self.cfg.consecutive {
            Some(limit) if failures >= limit => self.trip(word, Reason::ConsecutiveFailures, now),
            _ => self.judge(word, now),
        }
    }

    /// Does what is left to do for a success: it ends a row of failures, and rates may be reached.
    #[cold]
    fn reevaluate(&self, word: CircuitWord, now: Time) {
        if self.consecutive_failures.0.count.load(Relaxed) & !WATCH != 0 {
            self.consecutive_failures.0.count.fetch_and(WATCH, Relaxed);
        }
        self.judge(word, now);
    }

    /// Trips, if the rates say so.
    fn judge(&self, word: CircuitWord, now: Time) {
        if !word.can_trip() {
            return;
        }
        let (counts, few) = self.window.counts_of_at_least(self.cfg.minimum, now);
        let overdue = self.overdue(word, now);
        let verdict = RateVerdict::of(&self.cfg, counts, overdue);
        if let RateVerdict::Trip(reason) = verdict {
            return self.trip(word, reason, now);
        }
        // From now on, or no longer, successes have to look.
        let few = few && counts.failures + counts.slow + overdue > 0;
        let watch = few || verdict == RateVerdict::TooFew;
        let row = &self.consecutive_failures.0.count;
        match watch == (row.load(Relaxed) & WATCH != 0) {
            true => 0,
            false if watch => row.fetch_or(WATCH, Relaxed),
            false => row.fetch_and(!WATCH, Relaxed),
        };
    }

    #[cold]
    fn trip(&self, seen: CircuitWord, reason: Reason, now: Time) {
        self.circuit.transition(|circuit| {
            let not_before = self.circuit.not_before();
            circuit.trip(seen, reason, not_before, &self.cfg, now)
        });
    }

    /// Halves the share of calls that the ramp lets in; false if it is as small as it gets.
    fn halve_share(&self, seen: CircuitWord, now: Time) -> bool {
        self.circuit.change(|circuit| {
            let halved = circuit.halve_share(seen, &self.cfg, now);
            (halved, PendingTransition::NONE)
        })
    }

    fn overdue(&self, word: CircuitWord, now: Time) -> u64 {
        let in_flight = self.in_flight.as_ref();
        in_flight.map_or(0, |calls| calls.overdue(word.epoch(), now))
    }

    /// Counts a call that ended, and teaches nothing here and now.
    fn count_only(&self, verdict: CallVerdict) {
        let own = self.totals.own();
        match verdict {
            CallVerdict::Well => own.successes.fetch_add(1, Relaxed),
            CallVerdict::Unwell => own.failures.fetch_add(1, Relaxed),
            CallVerdict::Nothing => 0,
        };
    }

    /// Notes when the dependency wants to be called again. Not believed beyond a day.
    fn record_retry_after(&self, after: Duration, now: Time) {
        const DAY: Duration = Duration::from_secs(86_400);
        self.circuit.set_not_before(now.after(after.min(DAY)));
    }

    /// Forgets how all calls of the window ended.
    fn forget(&self) {
        self.window.clear(&self.totals);
        self.consecutive_failures.0.count.store(0, Relaxed);
    }

    pub(super) fn force_open(&self) {
        self.circuit.transition(Circuit::force_open);
    }

    pub(super) fn force_closed(&self) {
        self.begin_anew(Circuit::force_closed);
    }

    pub(super) fn reset(&self) {
        self.begin_anew(Circuit::reset);
    }

    fn begin_anew(&self, close: impl FnOnce(&mut Circuit) -> PendingTransition) {
        self.circuit.transition(|circuit| {
            self.circuit.set_not_before(Time(0));
            self.forget();
            close(circuit)
        });
    }

    pub(super) fn observe(&self, only: bool) {
        self.circuit.transition(|circuit| circuit.observe(only));
    }

    pub(super) fn snapshot(&self, now: Time) -> Snapshot {
        let cfg = &self.cfg;
        let (word, until, admitted_share, retry_after, trips_total) =
            self.circuit.read(|circuit| {
                let share = circuit.admitted_share(cfg, now);
                let retry_after = circuit.retry_after(now);
                (
                    circuit.word(),
                    circuit.until(),
                    share,
                    retry_after,
                    circuit.trips_total(),
                )
            });
        let counts = self.window.counts(now);
        let unfolded = self.window.unfolded();
        Snapshot {
            name: cfg.name,
            state: word.state(until, now),
            mode: word.mode(),
            calls: counts.calls(),
            failures: counts.failures,
            slow_calls: counts.slow,
            consecutive_failures: self.consecutive_failures.0.count.load(Relaxed) & !WATCH,
            in_flight_slow: self.overdue(word, now),
            admitted_share,
            retry_after,
            rejected_total: self.totals.sum(|c| &c.rejected),
            would_reject_total: self.totals.sum(|c| &c.would_reject),
            successes_total: self.totals.sum(|c| &c.successes) + unfolded.0,
            failures_total: self.totals.sum(|c| &c.failures) + unfolded.1,
            slow_calls_total: self.totals.sum(|c| &c.slow),
            trips_total,
        }
    }
}

impl Permit {
    #[inline]
    fn new(word: CircuitWord, began: Option<Time>) -> Self {
        let began = began.map_or(0, |time| time.0.max(1));
        Self {
            word,
            began,
            place: 0,
        }
    }
}
