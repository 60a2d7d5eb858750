//! The circuit: what leads from one [`Phase`] to another.
//!
//! Plain data. A transition is a method that takes the time as an argument and returns what there
//! is to tell of it. `shared_circuit.rs` has the lock, and shows calls the [`CircuitWord`].

use super::{
    config::Config,
    phase::{CircuitWord, IGNORED_EPOCH, Phase},
    probes::{ProbeEnd, ProbeStart, ProbeVerdict, Probes},
    snapshot::{Reason, State, Transition},
};
use crate::clock::{Time, nanos};
use std::time::Duration;

/// A circuit.
///
/// # Invariants
/// 1. The invariants of its [`CircuitWord`].
/// 2. `until` is zero but in `Open` and in `Ramp`, and not before what the dependency asked for
///    when the circuit opened.
/// 3. Probes have leases in `HalfOpen` only; those of an earlier half-open time are void.
/// 4. `relapses` counts how often probes have failed since it last left `Closed` or `Ramp`.
#[derive(Debug)]
pub(super) struct Circuit {
    word: CircuitWord,
    /// When the phase ends, if it ends by itself.
    until: Time,
    probes: Probes,
    relapses: i32,
    trips_total: u64,
    last: Transition,
}

/// A transition to tell of, once the lock is released: who hears of it may call the breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub(super) struct PendingTransition(pub(super) Option<Transition>);

impl PendingTransition {
    /// There is nothing to tell.
    pub(super) const NONE: Self = Self(None);

    pub(super) fn closes(self) -> bool {
        matches!(self.0, Some(Transition { to, .. }) if to == State::Closed)
    }
}

/// What becomes of a call that came after the open time, or while probes are deciding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeAdmission {
    /// It is a probe, with this lease.
    Admitted { lease: u64 },
    /// Enough probes are running, or it is open again: when to come back.
    Refused { retry_after: Duration },
    /// The circuit is in another phase by now, which has to be asked.
    OtherPhase,
}

/// The smallest share of calls that a ramp lets in.
const LEAST_SHARE: f64 = 0.1;

impl Circuit {
    pub(super) fn new(cfg: &Config) -> Self {
        Self {
            word: CircuitWord::new(0, cfg.observe, Phase::Closed),
            until: Time(0),
            probes: Probes::new(cfg.probes, cfg.needed, cfg.lease, cfg.max_open_for),
            relapses: 0,
            trips_total: 0,
            last: Transition {
                from: State::Closed,
                to: State::Closed,
                reason: Reason::Created,
                epoch: 0,
            },
        }
    }

    pub(super) fn word(&self) -> CircuitWord {
        self.word
    }

    pub(super) fn until(&self) -> Time {
        self.until
    }

    pub(super) fn trips_total(&self) -> u64 {
        self.trips_total
    }

    /// Returns the latest change of state.
    pub(super) fn last(&self) -> Transition {
        self.last
    }

    /// Returns the share of calls that are let in, as far as they are let in at all.
    pub(super) fn admitted_share(&self, cfg: &Config, now: Time) -> f64 {
        match self.word.phase() {
            Phase::Ramp => ramp_share(cfg, self.until.since(now)),
            _ => 1.0,
        }
    }

    /// Returns when a call may be let in again, if none is now and that is known.
    pub(super) fn retry_after(&self, now: Time) -> Option<Duration> {
        let until = match self.word.phase() {
            Phase::Open => self.until,
            Phase::HalfOpen => self.probes.not_before(),
            _ => return None,
        };
        (now < until).then(|| until.since(now))
    }

    /// Returns whether as many probes are running as may be, so that no more are let in.
    pub(super) fn is_probed(&self, now: Time) -> bool {
        self.word.is(Phase::HalfOpen) && self.probes.are_all_out(now)
    }

    // Closed | Ramp => Open
    //
    // If the calls that say so saw this epoch: otherwise somebody has tripped it, or reset it,
    // since.
    pub(super) fn trip(
        &mut self,
        seen: CircuitWord,
        reason: Reason,
        not_before: Time,
        cfg: &Config,
        now: Time,
    ) -> PendingTransition {
        if self.word.epoch() != seen.epoch() || !self.word.can_trip() {
            return PendingTransition::NONE;
        }
        self.relapses = 0;
        self.open(reason, not_before, cfg, now)
    }

    // Closed | Ramp => Open
    //
    // Because the dependency asked for it: nothing has failed.
    pub(super) fn pause(
        &mut self,
        seen: CircuitWord,
        until: Time,
        cfg: &Config,
        now: Time,
    ) -> PendingTransition {
        if self.word.epoch() != seen.epoch() || !self.word.can_trip() {
            return PendingTransition::NONE;
        }
        self.relapses = 0;
        self.trips_total += 1;
        // Only ever later than asked.
        let late = until.since(now).mul_f64(cfg.jitter * cfg.dice.unit());
        self.enter(Phase::Open, until.after(late), Reason::Overloaded)
    }

    // Open => HalfOpen
    //
    // By the first call after the deadline, which is a probe then: no timer has to run. The calls
    // after it are probes as long as there are leases.
    //
    // HalfOpen => Open
    //
    // By a call that finds that one probe too many has hung.
    pub(super) fn begin_probe(
        &mut self,
        lease_is_late: bool,
        not_before: Time,
        cfg: &Config,
        now: Time,
    ) -> (ProbeAdmission, PendingTransition) {
        let pending = match self.word.phase() {
            Phase::Open if now < self.until => {
                let retry_after = self.until.since(now);
                let refused = ProbeAdmission::Refused { retry_after };
                return (refused, PendingTransition::NONE);
            }
            Phase::Open => {
                self.probes.restart(lease_is_late);
                self.enter(Phase::HalfOpen, Time(0), Reason::WaitedOut)
            }
            Phase::HalfOpen => PendingTransition::NONE,
            _ => return (ProbeAdmission::OtherPhase, PendingTransition::NONE),
        };
        let next = match self.probes.begin(now) {
            ProbeStart::Lease(lease) => return (ProbeAdmission::Admitted { lease }, pending),
            ProbeStart::NotBefore(next) => next,
            // A healthy one ends before it is slow; one that has not may take its whole lease.
            ProbeStart::Enough { eldest } => {
                let healthy = eldest.0.saturating_add(cfg.slow);
                let lease = eldest.0.saturating_add(cfg.lease);
                let healthy = healthy.min(lease);
                Time(if now.0 < healthy { healthy } else { lease })
            }
            ProbeStart::Unwell => {
                let pending = self.reopen(not_before, cfg, now);
                let retry_after = self.until.since(now);
                return (ProbeAdmission::Refused { retry_after }, pending);
            }
        };
        let retry_after = next.since(now);
        (ProbeAdmission::Refused { retry_after }, pending)
    }

    /// Ends the probe with this lease, which was given out under the word `admitted`.
    pub(super) fn end_probe(
        &mut self,
        (admitted, lease): (CircuitWord, u64),
        end: ProbeEnd,
        not_before: Time,
        cfg: &Config,
        now: Time,
    ) -> PendingTransition {
        if self.word.epoch() != admitted.epoch() {
            return PendingTransition::NONE;
        }
        debug_assert!(self.word.is(Phase::HalfOpen), "a probe in {self:?}");
        match self.probes.end(lease, end, now) {
            None => PendingTransition::NONE,
            // HalfOpen => Closed | Ramp
            //
            // The dependency is back. Whether it can take all calls at once is another question,
            // which a ramp answers.
            Some(ProbeVerdict::Well) => {
                self.relapses = 0;
                let (phase, until) = match cfg.ramp {
                    Some(ramp) => (Phase::Ramp, ramp_until(ramp, LEAST_SHARE, now)),
                    None => (Phase::Closed, Time(0)),
                };
                self.enter(phase, until, Reason::ProbesSucceeded)
            }
            Some(ProbeVerdict::Unwell) => self.reopen(not_before, cfg, now),
        }
    }

    /// Stops the lease of a probe, which waits for another policy.
    pub(super) fn begin_wait_of_probe(&mut self, (admitted, lease): (CircuitWord, u64)) {
        if self.word.epoch() == admitted.epoch() {
            self.probes.begin_wait(lease);
        }
    }

    /// Lets the lease of a probe go on, which has waited for so long.
    pub(super) fn end_wait_of_probe(
        &mut self,
        (admitted, lease): (CircuitWord, u64),
        waited: Duration,
        now: Time,
    ) {
        if self.word.epoch() == admitted.epoch() {
            self.probes.end_wait(lease, waited, now);
        }
    }

    /// Returns how many probes are running.
    #[cfg(test)]
    pub(super) fn running_probes(&self) -> usize {
        match self.word.is(Phase::HalfOpen) {
            true => self.probes.running(),
            false => 0,
        }
    }

    // HalfOpen => Open
    //
    // For longer than the last time: who is not back yet need not be asked as often.
    fn reopen(&mut self, not_before: Time, cfg: &Config, now: Time) -> PendingTransition {
        self.relapses = self.relapses.saturating_add(1);
        self.open(Reason::ProbesFailed, not_before, cfg, now)
    }

    // Ramp => Closed
    //
    // In the same epoch: for the calls that were let in nothing has changed.
    pub(super) fn end_ramp(&mut self, seen: CircuitWord) -> PendingTransition {
        if self.word == seen && seen.is(Phase::Ramp) {
            let (epoch, observing) = (self.word.epoch(), self.word.is_observing());
            self.word = CircuitWord::new(epoch, observing, Phase::Closed);
            self.until = Time(0);
        }
        PendingTransition::NONE
    }

    // Ramp => Ramp
    //
    // With half the share, after a failure. False if it is as small as it gets already: then the
    // rules decide.
    pub(super) fn halve_share(&mut self, seen: CircuitWord, cfg: &Config, now: Time) -> bool {
        let Some(ramp) = cfg.ramp.filter(|_| self.word == seen) else {
            return false;
        };
        debug_assert!(seen.is(Phase::Ramp), "a share in {self:?}");
        let share = ramp_share(cfg, self.until.since(now));
        if share <= LEAST_SHARE {
            return false;
        }
        self.until = ramp_until(ramp, (share / 2.0).max(LEAST_SHARE), now);
        true
    }

    // Any => ForcedOpen
    //
    // An operator knows better.
    pub(super) fn force_open(&mut self) -> PendingTransition {
        self.enter(Phase::ForcedOpen, Time(0), Reason::Forced)
    }

    // Any => ForcedClosed
    //
    // An operator knows better.
    pub(super) fn force_closed(&mut self) -> PendingTransition {
        self.relapses = 0;
        self.enter(Phase::ForcedClosed, Time(0), Reason::Forced)
    }

    // Any => Closed
    //
    // Ends what was forced, and begins anew: the rules decide again.
    pub(super) fn reset(&mut self) -> PendingTransition {
        self.relapses = 0;
        self.enter(Phase::Closed, Time(0), Reason::Reset)
    }

    /// Changes nothing but whether calls are refused.
    pub(super) fn observe(&mut self, only: bool) -> PendingTransition {
        self.word = CircuitWord::new(self.word.epoch(), only, self.word.phase());
        PendingTransition::NONE
    }

    // Closed | Ramp | HalfOpen => Open
    fn open(
        &mut self,
        reason: Reason,
        not_before: Time,
        cfg: &Config,
        now: Time,
    ) -> PendingTransition {
        self.trips_total += 1;
        let until = now.0.saturating_add(open_time(cfg, self.relapses));
        self.enter(Phase::Open, Time(until).max(not_before), reason)
    }

    /// Begins an epoch: what was admitted in an earlier one teaches nothing more.
    fn enter(&mut self, phase: Phase, until: Time, reason: Reason) -> PendingTransition {
        let ends = matches!(phase, Phase::Open | Phase::Ramp);
        debug_assert!(ends || until == Time(0), "{phase:?} until {until:?}");
        let (before, epoch) = (self.word, self.word.epoch() + 1);
        debug_assert!(epoch < IGNORED_EPOCH, "epoch {epoch}");
        self.word = CircuitWord::new(epoch, before.is_observing(), phase);
        self.until = until;
        let (from, to) = (before.told_state(), self.word.told_state());
        PendingTransition((from != to).then(|| {
            self.last = Transition {
                from,
                to,
                reason,
                epoch,
            };
            self.last
        }))
    }
}

/// Returns for how long to open after so many relapses.
///
/// Grows like Envoy's outlier ejection, `min(base * times, max)` with jitter on top, but by a
/// factor instead of a summand; and the jitter goes both ways, as in Polly, so that its mean is
/// what was asked for.
fn open_time(cfg: &Config, relapses: i32) -> u64 {
    let grown = cfg.open_for as f64 * cfg.growth.powi(relapses);
    let base = grown.min(cfg.max_open_for as f64);
    if cfg.jitter == 0.0 {
        return base as u64;
    }
    (base * (1.0 + cfg.jitter * (2.0 * cfg.dice.unit() - 1.0))) as u64
}

/// Returns the share of calls to let in with this much of the ramp left.
///
/// Envoy's slow start with its defaults: `max(0.1, elapsed / window)`.
pub(super) fn ramp_share(cfg: &Config, left: Duration) -> f64 {
    let ramp = cfg.ramp.unwrap_or(1).max(1);
    (1.0 - nanos(left) as f64 / ramp as f64).clamp(LEAST_SHARE, 1.0)
}

/// Returns when a ramp ends that has come to this share.
fn ramp_until(ramp: u64, share: f64, now: Time) -> Time {
    Time(now.0.saturating_add((ramp as f64 * (1.0 - share)) as u64))
}
