//! What a breaker makes of ends that are neither successes nor failures, and of probes.

use super::{
    breaker::Breaker, permit::Permit, phase::Phase, probes::ProbeEnd, snapshot::Reason,
    verdict::CallVerdict,
};
use crate::{
    classify::Outcome,
    clock::{Now, Time, nanos},
    context,
    guard::End,
};
use std::time::Duration;

/// How long a full dependency is left alone at least before it is probed again.
const LEAST_WAIT: u64 = 1_000_000_000;

impl Breaker {
    /// Notes a success that is counted elsewhere, if it has to be looked at.
    #[inline(always)]
    pub(super) fn note_success(&self, permit: &Permit, now: Time) {
        let waited_for = permit.was_waited_for() && !permit.is_answered();
        if self.abandoned.is_due(waited_for, now) {
            self.look_at_success(waited_for.then(|| permit.took(now)), now);
        }
        self.abandoned.count(false, now);
    }

    #[cold]
    fn look_at_success(&self, took: Option<u64>, now: Time) {
        // It is well enough again to be called at once, whatever it has asked for.
        if self.circuit.not_before() != Time(0) {
            self.circuit.set_not_before(Time(0));
        }
        self.abandoned.answered(took, now);
    }

    /// Notes a success or a failure that is counted elsewhere.
    pub(super) fn note_end(&self, permit: &Permit, end: End, now: &Now) {
        match end {
            End::Done(Outcome::Success) => self.note_success(permit, now.get()),
            End::Done(_) => {
                self.note_answer(now);
                self.abandoned.count(false, now.get());
            }
            // What was cut off has not been answered.
            _ => {}
        }
    }

    /// Notes that the dependency answers.
    fn note_answer(&self, now: &Now) {
        if self.abandoned.is_due(false, now.get()) {
            self.abandoned.answered(None, now.get());
            // The next success still has to cancel that.
            if self.circuit.not_before() != Time(0) {
                self.abandoned.look_at_next();
            }
        }
    }

    /// Learns from a call of this epoch that ended without a result.
    pub(super) fn learn_without_result(&self, permit: &Permit, verdict: CallVerdict, now: &Now) {
        match verdict {
            CallVerdict::Answered => {
                self.note_answer(now);
                self.abandoned.count(false, now.get());
            }
            CallVerdict::Overloaded(after) => {
                // A load shed of ours refuses at the first poll and asks for no wait. That the
                // calls before it fill the dependency says nothing of whether it answers them.
                if after.is_some() || permit.was_waited_for() {
                    self.note_answer(now);
                }
                if let (Some(after), Some(most)) = (after, self.cfg.overload_pause) {
                    self.pause(permit, nanos(after).min(most), now.get());
                }
            }
            CallVerdict::Abandoned if permit.was_waited_for() && permit.word.can_trip() => {
                let began = Time(permit.began);
                let now = now.get();
                if self.abandoned.left(began, || self.successes(), now) {
                    self.trip(permit.word, Reason::Abandoned, now);
                }
            }
            _ => {}
        }
    }

    #[cold]
    fn pause(&self, permit: &Permit, wait: u64, now: Time) {
        if wait > 0 {
            let until = Time(now.0.saturating_add(wait));
            self.circuit
                .transition(|circuit| circuit.pause(permit.word, until, &self.cfg, now));
        }
    }

    /// Notes when the dependency wants to be called again, as far as that is believed.
    #[cold]
    pub(super) fn record_retry_after(&self, after: Duration, now: Time) {
        let after = nanos(after).min(self.cfg.max_retry_after);
        let until = Time(now.0.saturating_add(after));
        self.circuit.set_not_before(until);
        self.abandoned.look_at_next();
    }

    #[cold]
    pub(super) fn end_probe(&self, permit: &Permit, verdict: CallVerdict, now: Time) {
        // How long the rest of an answer takes says nothing.
        let timed = self.cfg.slow_rate.is_some() && !permit.is_answered();
        let slow = timed && permit.took(now) >= self.cfg.slow;
        let end = match verdict {
            CallVerdict::Well | CallVerdict::Answered if !slow => ProbeEnd::Well,
            CallVerdict::Well | CallVerdict::Answered | CallVerdict::Unwell => ProbeEnd::Unwell,
            // A load shed of ours further in: the dependency has not been asked.
            CallVerdict::Overloaded(None) if !permit.was_waited_for() => ProbeEnd::Unreached,
            CallVerdict::Overloaded(after) => ProbeEnd::Overloaded {
                wait: self.wait_of_probe(after),
            },
            CallVerdict::Abandoned => match self.abandoned.is_late(permit.took(now)) {
                Some(true) => ProbeEnd::Late,
                Some(false) | None => ProbeEnd::Nothing,
            },
            CallVerdict::Unreached => ProbeEnd::Unreached,
            CallVerdict::Nothing => ProbeEnd::Nothing,
        };
        let probe = (permit.word, permit.place());
        self.circuit.transition(|circuit| {
            if end == ProbeEnd::Well && circuit.word().epoch() == permit.word.epoch() {
                self.circuit.set_not_before(Time(0));
            }
            let not_before = self.circuit.not_before();
            let pending = circuit.end_probe(probe, end, not_before, &self.cfg, now);
            if pending.closes() {
                self.circuit.set_not_before(Time(0));
                self.forget();
            }
            pending
        });
    }

    fn wait_of_probe(&self, after: Option<Duration>) -> u64 {
        let asked = after.map_or(0, nanos).min(self.cfg.max_retry_after);
        asked.max(LEAST_WAIT.min(self.cfg.max_open_for))
    }

    /// Hears that the answer has begun, which its body may take long to end.
    #[inline]
    pub(super) fn on_answer(&self, permit: &mut Permit, outcome: Outcome, now: &Now) {
        if permit.is_answered() {
            return;
        }
        if permit.word.is(Phase::HalfOpen) {
            self.probe_answered(permit, outcome, now.get());
        } else if outcome == Outcome::Success {
            // By when it began, which is known, so that most answers cause no look at the clock.
            let waited_for = permit.was_waited_for();
            if self.abandoned.is_due(waited_for, Time(permit.began))
                && self.circuit.word().epoch() == permit.word.epoch()
            {
                self.look_at_success(waited_for.then(|| permit.took(now.get())), now.get());
            }
            permit.set_answered();
        }
    }

    /// Ends a probe whose answer has begun. From then on it is a call like any other; while other
    /// probes have yet to decide, one that can still fail.
    #[cold]
    fn probe_answered(&self, permit: &mut Permit, outcome: Outcome, now: Time) {
        // The end will say that the request broke off, and not that the dependency failed.
        if outcome == Outcome::Failure && context::current().request.has_failed() {
            return;
        }
        let verdict = CallVerdict::of(End::Done(outcome), self.cfg.abandoned, || None, || 0);
        if let CallVerdict::Overloaded(Some(after)) = verdict {
            self.record_retry_after(after, now);
        }
        self.end_probe(permit, verdict, now);
        permit.set_answered();
        if !matches!(verdict, CallVerdict::Well | CallVerdict::Answered) {
            permit.set_place(0);
        }
        self.follow_probe(permit);
    }

    /// Makes a call of a probe that was answered well and whose answer goes on, if the probes have
    /// closed the circuit since and nothing else has happened to it.
    #[inline]
    pub(super) fn follow_probe(&self, permit: &mut Permit) {
        if permit.word.is(Phase::HalfOpen) && permit.is_answered() && permit.place() != 0 {
            self.follow_answered_probe(permit);
        }
    }

    #[cold]
    fn follow_answered_probe(&self, permit: &mut Permit) {
        let (word, last) = self
            .circuit
            .read(|circuit| (circuit.word(), circuit.last()));
        let closed = last.reason == Reason::ProbesSucceeded && word.epoch() == last.epoch;
        if closed && word.epoch() == permit.word.epoch() + 1 {
            permit.word = word;
            permit.set_place(0);
        }
    }
}
