//! The breaker: what a call passes on its way in and out.
//!
//! Most calls read the circuit's word and nothing else on their way in. Permits carry that word,
//! and with it the epoch; what ends in a later one teaches nothing.

use super::{
    abandoned::Abandoned,
    circuit::{Circuit, PendingTransition, ProbeAdmission, ramp_share},
    config::Config,
    config_ends::AbandonedRule,
    failure_row::{FailureRow, WATCH},
    inflight::InFlight,
    permit::Permit,
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
    context::Limiter,
    error::{Kind, Rejected, limiter},
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
    pub(super) totals: Totals,
    pub(super) abandoned: Abandoned,
    pub(super) in_flight: Option<InFlight>,
    pub(super) cfg: Arc<Config>,
}

/// So many failures in a row trip a ramp at the least, as long as each can still halve its share.
const RAMP_FAILURES: u64 = 5;

impl Breaker {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(cfg: Arc<Config>, stripes: usize) -> Self {
        Self {
            circuit: SharedCircuit::new(&cfg),
            consecutive_failures: Padded::default(),
            window: Window::new(cfg.size, stripes),
            totals: Totals::new(stripes),
            abandoned: Abandoned::new(cfg.abandoned == AbandonedRule::SilenceOrRate),
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
            Ok(permit) => Ok(permit.moved()),
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
                    // The next coin may fall otherwise; everybody's at once would be a crowd.
                    let tenth = Duration::from_nanos(self.cfg.ramp.unwrap_or(0) / 10);
                    return self.refuse(word, Some(left.min(tenth)), time);
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

    /// Asks for the lease of a probe, after the open time, and while half-open.
    fn begin_probe(&self, now: Time) -> (CircuitWord, ProbeAdmission) {
        let lease_is_late =
            self.cfg.abandoned.compares() && self.abandoned.is_late(self.cfg.lease) == Some(true);
        self.circuit.change(|circuit| {
            let not_before = self.circuit.not_before();
            let (admission, pending) =
                circuit.begin_probe(lease_is_late, not_before, &self.cfg, now);
            ((circuit.word(), admission), pending)
        })
    }

    #[cold]
    fn probe(&self, now: Time) -> Result<Permit, Rejected> {
        let (word, admission) = self.begin_probe(now);
        match admission {
            ProbeAdmission::Admitted { lease } => Ok(Permit::probe(word, lease, now)),
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
        permit.set_waited_for();
        if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && permit.may_enter()
            && let Some(index) = in_flight.enter(permit.word.epoch(), Time(permit.began), now.get())
        {
            permit.set_place(index as u64 + 1);
            if self.first_look(permit.word, now.get()) {
                self.judge(permit.word, now.get());
            }
        }
    }

    // Always: how nearly all calls end is known where they call this.
    #[inline(always)]
    pub(super) fn settle(&self, permit: Permit, end: End, now: &Now) {
        let word = self.circuit.word();
        if end == End::Done(Outcome::Success)
            && permit.place() == 0
            && word.epoch() == permit.word.epoch()
            && word.is(Phase::Closed)
            && let Window::Time(window) = &self.window
            && !self.was_slow(&permit, now)
        {
            let now = now.get();
            // Earlier calls may have left the window with this one, so that a rate is reached
            // without a failure.
            let turned = window.add_success(&self.totals, now) | self.first_look(word, now);
            self.note_success(&permit, now);
            if turned || self.consecutive_failures.0.count.load(Relaxed) != 0 {
                self.reevaluate(word, now);
            }
            return;
        }
        self.settle_other(permit.moved(), end, now);
    }

    /// Learns that the service failed to become ready: a failure, and while probes are to decide, a
    /// probe that failed.
    #[cold]
    pub(super) fn ready_failed(&self, now: &Now) {
        let time = now.get();
        let permit = match self.begin_probe(time) {
            (word, ProbeAdmission::Admitted { lease }) => Permit::probe(word, lease, time),
            (word, ProbeAdmission::OtherPhase) if !word.is(Phase::ForcedOpen) => {
                Permit::new(word, Some(time))
            }
            _ => return self.count_only(CallVerdict::Unwell),
        };
        self.settle(permit, End::Done(Outcome::Failure), now);
    }

    #[inline]
    fn first_look(&self, word: CircuitWord, now: Time) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|calls| calls.first_look(word.epoch(), now))
    }

    #[inline]
    pub(super) fn was_slow(&self, permit: &Permit, now: &Now) -> bool {
        permit.began != 0 && now.get().0.saturating_sub(permit.began) >= self.cfg.slow
    }

    #[inline(never)]
    fn settle_other(&self, mut permit: Permit, end: End, now: &Now) {
        if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && let Some(index) = permit.counted_by()
        {
            in_flight.leave(index, permit.word.epoch(), Time(permit.began));
        }
        let took = || permit.took(now.get());
        // Whoever cuts it off is dropping it now.
        let limit = || limiter().and_then(Limiter::limit);
        let verdict = match end {
            // Its answer had begun: who left before its end was reading it.
            End::Cancelled if permit.is_answered() => CallVerdict::Nothing,
            end => CallVerdict::of(end, self.cfg.abandoned, limit, took),
        };
        if let CallVerdict::Overloaded(Some(after)) = verdict {
            self.record_retry_after(after, now.get());
        }
        let counts = matches!(verdict, CallVerdict::Well | CallVerdict::Unwell);
        let slow = counts && self.was_slow(&permit, now);
        if slow {
            self.totals.own().slow.fetch_add(1, Relaxed);
        }
        self.follow_probe(&mut permit);
        let word = self.circuit.word();
        if permit.word.is(Phase::HalfOpen) {
            self.count_only(verdict);
            self.end_probe(&permit, verdict, now.get());
        } else if word.epoch() != permit.word.epoch() {
            self.count_only(verdict);
        } else if counts {
            self.note_end(&permit, end, now);
            self.learn(word, verdict == CallVerdict::Unwell, slow, now.get());
        } else {
            self.learn_without_result(&permit, verdict, now);
        }
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
        // Where calls are few, the share grows between two failures as much as one takes away: a
        // ramp that met nothing else would never end.
        let halved = word.is(Phase::Ramp) && self.halve_share(word, now);
        let least = if halved { RAMP_FAILURES } else { 0 };
        match self.cfg.consecutive {
            Some(limit) if failures >= limit.max(least) => {
                self.trip(word, Reason::ConsecutiveFailures, now)
            }
            _ if failures < least => {}
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
        let overdue = self.overdue(word, now);
        let (counts, few) = self.window.counts_of_at_least(self.cfg.minimum, now);
        let verdict = match RateVerdict::of(&self.cfg, counts, overdue) {
            // Calls that hang are enough by themselves: what ended well in earlier windows, which
            // were looked at for want of ends in this one, must not outvote them.
            RateVerdict::Below | RateVerdict::TooFew if few && overdue > 0 => {
                RateVerdict::of(&self.cfg, self.window.counts(now), overdue)
            }
            verdict => verdict,
        };
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
    pub(super) fn trip(&self, seen: CircuitWord, reason: Reason, now: Time) {
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
            _ => 0,
        };
    }

    /// Returns how many calls have succeeded.
    pub(super) fn successes(&self) -> u64 {
        self.totals.sum(|totals| &totals.successes) + self.window.unfolded().0
    }

    /// Forgets how all calls of the window ended.
    pub(super) fn forget(&self) {
        self.abandoned.forget();
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
