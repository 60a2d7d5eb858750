//! The attempts at one call: whether there is another one, and when.

use super::{Core, Hint, budget::Budget, budget::Paid};
use crate::{
    classify::Outcome,
    clock::{Now, Time},
    context,
    error::{Kind, Rejected},
};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// What an attempt's end means for the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AttemptVerdict {
    /// The call is over, and paid into the budget.
    Succeeded,
    /// The call is over.
    Final,
    /// It failed.
    Failed(Failed),
}

/// What is known of an attempt that failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Failed {
    /// Whether the service said that it is full.
    pub(super) overloaded: bool,
    /// How long it asked to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl From<Outcome> for AttemptVerdict {
    #[inline]
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Succeeded,
            Outcome::Ignored | Outcome::Refused => Self::Final,
            Outcome::Failure => Self::Failed(Failed::default()),
            Outcome::Overloaded { retry_after } => Self::Failed(Failed {
                overloaded: true,
                retry_after,
            }),
        }
    }
}

impl From<Rejected> for AttemptVerdict {
    /// Takes a rejection for final, unless it was only the end of an attempt.
    ///
    /// A policy below that refuses a call has its reasons, and they still hold a moment later: to
    /// ask again would cost the budget, and get the same answer. A timeout is the end of an
    /// attempt like any other.
    fn from(rejected: Rejected) -> Self {
        match rejected.kind().is_failure() {
            true => Self::Failed(Failed::default()),
            false => Self::Final,
        }
    }
}

/// How far a call has come in its attempts.
///
/// # Invariants
/// 1. Attempts are numbered from 1, and there are never more than the policy allows.
/// 2. A retry that is waited for has been paid for. It is spent when its attempt starts, and given
///    back if that never does: because the call is dropped, or gives up.
#[derive(Debug)]
pub(super) struct Attempts {
    /// The first is 1.
    pub(super) number: u32,
    /// Retries since the backoff last began at its initial wait, and the last wait.
    step: u32,
    last: Option<Duration>,
    deadline: Option<Time>,
    paid: Option<Withdrawal>,
}

/// A retry that is paid for; `None` once it is spent.
#[derive(Debug)]
struct Withdrawal(Budget, Option<Paid>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        if let Some(paid) = self.1 {
            self.0.give_back(paid);
        }
    }
}

impl Attempts {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            number: 1,
            step: 0,
            last: None,
            // Of the context in which the call was made: its future may be polled in another.
            deadline: context::current().deadline,
            paid: None,
        }
    }

    /// Returns when the call's caller stops waiting.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Returns the rejection of a call whose deadline came before another attempt could start, and
    /// whose last one ended in a response.
    #[cold]
    pub(super) fn too_late(&self, core: &Core) -> Rejected {
        let rejected = Rejected::new(Kind::DeadlineExceeded, core.name).having_reached_service();
        // Asked of the context in which it is polled, so that no call has to remember it. If that
        // is another one, it does not say whose deadline this is.
        let context = context::current();
        match context.deadline == self.deadline && context.limiter.is_caller() {
            true => rejected.by_callers_limit(),
            false => rejected,
        }
    }

    /// Runs one call or poll of the present attempt.
    #[inline]
    pub(super) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        if self.number == 1 {
            return f();
        }
        let mut context = context::current();
        context.attempt = self.number;
        context.enter(f)
    }

    /// Returns how long to wait before the next attempt, after one that failed. `None` if there is
    /// to be none, or nobody pays for it: then the call is lost, unless the service asked for that.
    pub(super) fn next_wait(
        &mut self,
        core: &Core,
        failed: Failed,
        hint: Hint,
        now: &Now,
    ) -> Option<Duration> {
        debug_assert!(self.paid.is_none(), "a retry that was not started");
        if context::current().request.has_failed() {
            // What it asked for cannot be asked for again.
            return self.give_up(core);
        }
        match hint {
            Hint::Stop => return self.give_up(core),
            Hint::After(asked) | Hint::Exactly(asked) if asked > core.max_wait => {
                return self.give_up(core);
            }
            _ => {}
        }
        if self.number >= core.max_attempts {
            return self.lose(core);
        }
        let Some(wait) = self.backoff(core, hint) else {
            return self.lose(core);
        };
        if let Some(deadline) = self.deadline
            && now.get().after(wait) >= deadline
        {
            return self.lose(core);
        }
        let Some(paid) = core.budget.withdraw(now.get(), failed.overloaded) else {
            core.budget_exhausted.fetch_add(1, Relaxed);
            core.budget.record_lost();
            return None;
        };
        self.paid = Some(Withdrawal(core.budget.clone(), Some(paid)));
        self.number += 1;
        Some(wait)
    }

    /// Counts a failure that becomes the call's answer, and says that the target may be failing.
    #[cold]
    pub(super) fn lose<T>(&mut self, core: &Core) -> Option<T> {
        core.budget.record_lost();
        self.give_up(core)
    }

    /// Counts a failure that becomes the call's answer.
    #[cold]
    pub(super) fn give_up<T>(&mut self, core: &Core) -> Option<T> {
        self.paid = None;
        core.gave_up.fetch_add(1, Relaxed);
        None
    }

    /// Starts the attempt that was waited for: its retry is spent. The first one costs nothing.
    pub(super) fn start(&mut self, core: &Core) {
        if let Some(mut paid) = self.paid.take() {
            paid.1 = None;
            core.retries.fetch_add(1, Relaxed);
        }
    }

    /// Returns the backoff's wait, made to fit what the service asked for; `None` if it is longer
    /// than a caller is to wait.
    fn backoff(&mut self, core: &Core, hint: Hint) -> Option<Duration> {
        let floor = match hint {
            Hint::None | Hint::Stop => None,
            Hint::After(floor) => Some(floor),
            Hint::Exactly(wait) => {
                (self.step, self.last) = (0, None);
                return Some(wait);
            }
        };
        self.step = self.step.saturating_add(1);
        let wait = core.backoff.wait(self.step, self.last, core.dice.unit());
        self.last = Some(wait);
        if wait > core.max_wait {
            return None;
        }
        let Some(floor) = floor else {
            return Some(wait);
        };
        // Never early, and not all at once either; but the backoff's own wait is not made longer
        // than it may be.
        let later = spread(wait.max(floor), core.dice.unit());
        Some(match wait < floor {
            true => later,
            false => later.min(core.backoff.longest(wait)),
        })
    }
}

/// Returns up to a tenth more than `wait`.
fn spread(wait: Duration, unit: f64) -> Duration {
    let more = (wait / 10).as_nanos() as f64 * unit;
    wait.saturating_add(Duration::from_nanos(more as u64))
}
