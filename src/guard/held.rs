//! The only RAII of the design.

use super::{End, GuardBase};
use crate::{
    classify::Outcome,
    clock::Now,
    error::{Kind, Rejected},
    shared::Shared,
};
use std::{fmt, mem};

/// What gives a running call access to its guard.
pub trait GuardRef {
    /// The guard.
    type Guard: GuardBase;
    /// The guard.
    fn guard(&self) -> &Self::Guard;
}

impl<G: GuardBase> GuardRef for &G {
    type Guard = G;
    #[inline]
    fn guard(&self) -> &G {
        self
    }
}

/// A guard and what settles its calls, as a layer, its services and their calls share them.
pub(super) struct Core<G, P> {
    pub(super) guard: G,
    pub(super) settle: P,
}

/// Shared ownership of a guard and its [`Settle`](super::Settle) strategy.
pub struct SharedGuard<G, P>(pub(super) Shared<Core<G, P>>);

impl<G: GuardBase, P> CallGuard<SharedGuard<G, P>> {
    /// The layer's strategy, while the call has not ended.
    #[inline]
    pub fn strategy(&self) -> Option<&P> {
        self.call.as_ref().map(|(owner, _)| &owner.0.settle)
    }

    /// Asks the strategy how the call ended, and ends it so. If it panics, so did the call.
    #[inline]
    pub fn end_as(&mut self, judge: impl FnOnce(&P) -> End) {
        if let Some(end) = self.during(|held| held.strategy().map(judge)) {
            self.end(end);
        }
    }
}

impl<G, P> fmt::Debug for SharedGuard<G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedGuard")
    }
}

impl<G, P> Clone for SharedGuard<G, P> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G: GuardBase, P> GuardRef for SharedGuard<G, P> {
    type Guard = G;
    #[inline]
    fn guard(&self) -> &G {
        &self.0.guard
    }
}

/// An admitted call. However it ends, its permit is settled exactly once; dropped, it was cancelled,
/// or never started if the service had not been called yet.
pub struct CallGuard<O: GuardRef> {
    call: Option<(O, <O::Guard as GuardBase>::Permit)>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The service has not been called yet.
    Admitted,
    Called,
    /// The guard has been told that the call takes its time.
    Suspended,
}

impl<O: GuardRef> CallGuard<O> {
    #[inline]
    pub(crate) fn new(owner: O, permit: <O::Guard as GuardBase>::Permit) -> Self {
        Self {
            call: Some((owner, permit)),
            stage: Stage::Admitted,
        }
    }

    /// Moves the permit out, to be settled elsewhere: at the end of a body, say.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            call: self.call.take(),
            stage: self.stage,
        }
    }

    /// The call ended.
    #[inline]
    pub fn end(&mut self, end: End) {
        if let Some((owner, permit)) = self.call.take() {
            owner.guard().settle(permit, end, &Now::lazy());
        }
    }

    /// The call ended in a rejection by a policy below.
    #[cold]
    pub(crate) fn end_rejected(&mut self, rejected: &Rejected) {
        self.end(match rejected.kind() {
            Kind::TimedOut | Kind::LoadFailed => End::Done(Outcome::Failure),
            // Its caller gave up: whether that says something depends on how long it ran.
            Kind::DeadlineExceeded if rejected.reached_service() => End::Cancelled,
            Kind::DeadlineExceeded => End::Done(Outcome::Ignored),
            _ => End::Done(Outcome::Overloaded {
                retry_after: rejected.retry_after(),
            }),
        });
    }

    /// A poll of the call, or of its response's body, did not end it. The guard is told once.
    #[inline]
    pub(crate) fn on_pending(&mut self) {
        if self.stage != Stage::Suspended
            && let Some((owner, permit)) = &mut self.call
        {
            self.stage = Stage::Suspended;
            owner.guard().on_pending(permit, &Now::lazy());
        }
    }

    /// Calls the service. From now on, a call that is dropped has been cancelled.
    #[inline]
    pub(crate) fn start<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.stage = Stage::Called;
        self.during(|_| call())
    }

    /// Runs code of the application; if it unwinds, the call ended in a panic.
    #[inline]
    pub(crate) fn during<T>(&mut self, f: impl FnOnce(&Self) -> T) -> T {
        struct Unwinding<'a, O: GuardRef>(&'a mut CallGuard<O>);
        impl<O: GuardRef> Drop for Unwinding<'_, O> {
            #[cold]
            fn drop(&mut self) {
                self.0.end(End::Panicked);
            }
        }
        // `thread::panicking()` in a later drop would also be true for a call that was dropped
        // because something else panicked.
        let bomb = Unwinding(self);
        let out = f(bomb.0);
        mem::forget(bomb);
        out
    }
}

impl<O: GuardRef> Drop for CallGuard<O> {
    #[inline]
    fn drop(&mut self) {
        self.end(match self.stage {
            Stage::Admitted => End::NeverStarted,
            Stage::Called | Stage::Suspended => End::Cancelled,
        });
    }
}

impl<O: GuardRef> fmt::Debug for CallGuard<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallGuard")
            .field(&self.call.is_some())
            .finish()
    }
}
