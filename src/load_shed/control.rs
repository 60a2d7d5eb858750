//! Feeds the rule of a limit that changes: what is seen of calls.

use super::{
    gate::Gate,
    permit::{Permit, Timing},
    samples::{ONE_IN, Samples},
    window::{Bounds, Windows},
};
use crate::{
    classify::Outcome,
    clock::{Now, Time},
    guard::End,
    load_shed::limit::Limit,
    shared::Padded,
};
use std::{
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// How long a call took that was not suspended, if that is all that is known.
const AT_ONCE: u64 = 1_000;

/// The limit of one load shed, if it changes: its rule, and what is seen of calls.
#[derive(Debug)]
pub(super) struct LimitControl {
    pub(super) samples: Samples,
    pub(super) peak: Padded<AtomicUsize>,
    /// What of the window is read at every end.
    pub(super) bounds: Padded<Bounds>,
    windows: Mutex<Windows>,
}

impl LimitControl {
    pub(super) fn new(
        rule: Box<dyn Limit>,
        limit: usize,
        most_long_lived: usize,
        stripes: usize,
    ) -> Self {
        Self {
            samples: Samples::new(stripes),
            peak: Padded::default(),
            bounds: Padded(Bounds::new(limit)),
            windows: Mutex::new(Windows::new(rule, limit, most_long_lived)),
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

    /// Returns the limit that the rule has set: for calls that are not long-lived.
    pub(super) fn limit(&self) -> usize {
        self.bounds.0.limit()
    }

    /// Returns how many calls were long-lived when that was last looked at.
    pub(super) fn long_lived(&self) -> usize {
        self.bounds.0.long_lived()
    }

    /// Counts a call that has not ended at its first poll among those in flight.
    pub(super) fn on_pending(&self, permit: &mut Permit, slot: usize, now: &Now, gate: &Gate) {
        let start = match permit.timing() {
            Timing::Untimed | Timing::Reserved | Timing::HeldBack => now.get(),
            Timing::Timed | Timing::Sampled | Timing::InFlight => permit.start(),
            // Counted when the wait is over.
            Timing::Waiting => return,
        };
        *permit = permit.with(start, Timing::InFlight);
        let look = self.samples.of(slot).begin(start);
        if look {
            let free = gate.free();
            self.see_in_flight(gate.in_use(free));
            if free == 0 {
                *permit = permit.with(start, Timing::InFlight).at_limit();
            }
        }
    }

    /// Counts a call no longer among those in flight while it is in a wait of another policy.
    #[cold]
    pub(super) fn on_wait_begin(&self, permit: &mut Permit, slot: usize, now: Time) {
        if permit.timing() == Timing::InFlight {
            self.samples.of(slot).end(permit.start(), now);
            *permit = permit.with(permit.start(), Timing::Waiting);
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
        let before = permit.start();
        let start = before.after(waited).min(now).max(before);
        let timing = match permit.timing() {
            Timing::Untimed | Timing::Reserved | Timing::HeldBack => return,
            Timing::Waiting => {
                self.samples.of(slot).go_on(start, now);
                Timing::InFlight
            }
            Timing::InFlight => {
                // Older by its wait than it counts from now on.
                let mut samples = self.samples.of(slot);
                samples.end(before, now);
                samples.go_on(start, now);
                Timing::InFlight
            }
            timing @ (Timing::Timed | Timing::Sampled) => timing,
        };
        *permit = permit.with(start, timing);
    }

    /// Remembers the most calls in flight at once that are not long-lived.
    pub(super) fn see_in_flight(&self, in_flight: usize) {
        let in_flight = in_flight.saturating_sub(self.long_lived());
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
            Timing::Reserved => self.ended_at_once(permit, Timing::Sampled, end, slot, now.get()),
            Timing::HeldBack => self.ended_at_once(permit, Timing::Timed, end, slot, now.get()),
        }
    }

    /// Learns from the end of a call that was not timed, and not in flight.
    fn ended_at_once(
        &self,
        permit: &Permit,
        timing: Timing,
        end: End,
        slot: usize,
        now: Time,
    ) -> bool {
        let start = Time(now.0.saturating_sub(AT_ONCE));
        self.ended_at(&permit.with(start, timing), end, slot, now)
    }

    fn ended_at(&self, permit: &Permit, end: End, slot: usize, now: Time) -> bool {
        let (bounds, start) = (&self.bounds.0, permit.start());
        let took = now.0.saturating_sub(start.0);
        let seconds = took as f64 * 1e-9;
        let left_out = match end {
            End::NeverStarted | End::RequestFailed | End::Done(Outcome::Refused) => true,
            // In a wait of another policy it does not run in the service.
            End::Cancelled | End::Panicked => {
                took < bounds.short() || permit.timing() == Timing::Waiting
            }
            End::Done(_) | End::TimedOut => false,
        };
        let mut samples = self.samples.of(slot);
        let mut was_long_lived = false;
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
                let began = bounds.began().max(start).min(now);
                was_long_lived = samples.end(start, if left_out { began } else { now });
                1
            }
        };
        let done = samples.done();
        match end {
            _ if left_out => {}
            End::Done(Outcome::Success | Outcome::Ignored) if was_long_lived => {
                done.outlived += 1;
                done.outlived_sum += seconds;
            }
            _ if was_long_lived => {}
            End::Done(Outcome::Overloaded { .. }) => done.overloaded += 1,
            End::Done(Outcome::Failure) if took > bounds.long() => done.lost += 1,
            End::Done(Outcome::Failure) => done.failures += u64::from(weight),
            End::Done(_) => {
                done.complete(weight, seconds);
                if start >= bounds.began() {
                    done.within.add(took, weight);
                    if permit.was_at_limit() {
                        done.at_limit.add(took, weight);
                    }
                }
            }
            End::TimedOut
            | End::Cancelled
            | End::Panicked
            | End::RequestFailed
            | End::NeverStarted => done.lost += 1,
        }
        drop(samples);
        was_long_lived || self.is_due(now)
    }

    /// Returns whether a rejection is to look whether the window is over, if so many came before
    /// it.
    #[inline]
    pub(super) fn looks_at(&self, rejections: u64) -> bool {
        self.bounds.0.looks_at(rejections)
    }

    /// Returns whether the window may be over.
    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.bounds.0.is_due(now)
    }

    /// Closes the window if it is over, and counts the calls that have become long-lived.
    /// `rejected` is how many calls have found no permit and did not wait.
    #[cold]
    pub(super) fn look(&self, gate: &Gate, rejected: impl FnOnce() -> u64, slot: usize, now: Time) {
        let mut windows = match self.windows.try_lock() {
            Ok(windows) => windows,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Someone else is looking.
            Err(TryLockError::WouldBlock) => return,
        };
        if windows.look(self, gate, rejected, now) {
            drop(windows);
            gate.attend(slot, now);
        }
    }
}
