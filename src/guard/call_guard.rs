//! Who gives a running call's permit back, however the call ends.

use super::{End, GuardBase};
use crate::{
    classify::Outcome,
    clock::Now,
    error::{Kind, Rejected},
    shared::Shared,
};
use std::{fmt, mem};

/// Access to a guard for a running call: a reference in [`run`](fn@super::run), a [`SharedGuard`]
/// in layers.
pub trait GuardRef {
    /// The type of the guard.
    type Guard: GuardBase;
    /// Returns the guard.
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
///
/// # Clone
/// A clone is the same guard. Each thread has a reference count of its own, so cloning is as cheap
/// on many threads as on one.
pub struct SharedGuard<G, P>(pub(super) Shared<Core<G, P>>);

impl<G: GuardBase, P> CallGuard<SharedGuard<G, P>> {
    /// Returns the layer's strategy, or `None` if the call has ended.
    #[inline]
    pub fn strategy(&self) -> Option<&P> {
        self.call.as_ref().map(|(guard_ref, _)| &guard_ref.0.settle)
    }

    /// Ends the call with what `judge` makes of it. If `judge` panics, the call ends as
    /// [`End::Panicked`]. Does nothing if the call has ended already.
    #[inline]
    pub fn end_as(&mut self, judge: impl FnOnce(&P) -> End) {
        if let Some(end) = self.during(|call| call.strategy().map(judge)) {
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

/// An admitted call, which owns its permit.
///
/// # Invariants
/// 1. A permit is settled exactly once: by [`end`](Self::end), or when this is dropped. Whoever
///    [takes](Self::take) the call takes over that duty.
/// 2. A call that is dropped before the service was called ends as [`End::NeverStarted`]; one that
///    is dropped later ends as [`End::Cancelled`].
/// 3. Code of the application runs inside `during` only, so that a panic in it ends the call as
///    [`End::Panicked`].
/// 4. The stages are passed in order, each at most once; the guard hears of the last one only.
pub struct CallGuard<R: GuardRef> {
    /// `None` once the call has ended or was taken.
    call: Option<(R, <R::Guard as GuardBase>::Permit)>,
    stage: CallStage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CallStage {
    /// The service has not been called yet.
    Admitted,
    /// It has been called.
    Called,
    /// The guard has been told that the call does not end at once.
    Pending,
}

impl<R: GuardRef> CallGuard<R> {
    #[inline]
    pub(crate) fn new(guard_ref: R, permit: <R::Guard as GuardBase>::Permit) -> Self {
        Self {
            call: Some((guard_ref, permit)),
            stage: CallStage::Admitted,
        }
    }

    /// Moves the call and its permit out, to be ended elsewhere, such as at the end of a body. What
    /// is left behind counts as ended.
    #[inline]
    #[must_use = "a call that is dropped has been cancelled"]
    pub fn take(&mut self) -> Self {
        Self {
            call: self.call.take(),
            stage: self.stage,
        }
    }

    /// Ends the call and settles its permit. Does nothing if the call has ended already.
    #[inline]
    pub fn end(&mut self, end: End) {
        if let Some((guard_ref, permit)) = self.call.take() {
            guard_ref.guard().settle(permit, end, &Now::lazy());
        }
    }

    /// Ends a call whose service failed to become ready. Returns the guard, which may have to be
    /// told of it.
    pub(super) fn end_unready(&mut self) -> Option<R> {
        let (guard_ref, permit) = self.call.take()?;
        guard_ref
            .guard()
            .settle(permit, End::NeverStarted, &Now::lazy());
        Some(guard_ref)
    }

    /// Ends the call as one that a policy below has rejected.
    #[cold]
    pub(crate) fn end_rejected(&mut self, rejected: &Rejected) {
        self.end(match rejected.kind() {
            kind if kind.is_failure() => End::Done(Outcome::Failure),
            // Its caller gave up: whether that says something depends on how long it ran.
            Kind::DeadlineExceeded if rejected.reached_service() => End::Cancelled,
            Kind::DeadlineExceeded => End::Done(Outcome::Ignored),
            _ => End::Done(Outcome::Overloaded {
                retry_after: rejected.retry_after(),
            }),
        });
    }

    /// Tells the guard, once, that a poll of the call, or of its response's body, did not end it.
    #[inline]
    pub(crate) fn on_pending(&mut self) {
        if self.stage != CallStage::Pending
            && let Some((guard_ref, permit)) = &mut self.call
        {
            self.stage = CallStage::Pending;
            guard_ref.guard().on_pending(permit, &Now::lazy());
        }
    }

    /// Calls the service. From now on, a call that is dropped has been cancelled.
    #[inline]
    pub(crate) fn start<T>(&mut self, call: impl FnOnce() -> T) -> T {
        debug_assert_eq!(self.stage, CallStage::Admitted, "a call starts once");
        self.stage = CallStage::Called;
        self.during(|_| call())
    }

    /// Runs code of the application; if it unwinds, the call ended in a panic.
    #[inline]
    pub(crate) fn during<T>(&mut self, f: impl FnOnce(&Self) -> T) -> T {
        struct Unwinding<'a, R: GuardRef>(&'a mut CallGuard<R>);
        impl<R: GuardRef> Drop for Unwinding<'_, R> {
            #[cold]
            fn drop(&mut self) {
                self.0.end(End::Panicked);
            }
        }
        // `thread::panicking()` in a later drop would also be true for a call that was dropped
        // because something else panicked.
        let unwinding = Unwinding(self);
        let out = f(unwinding.0);
        mem::forget(unwinding);
        out
    }
}

impl<R: GuardRef> Drop for CallGuard<R> {
    #[inline]
    fn drop(&mut self) {
        self.end(match self.stage {
            CallStage::Admitted => End::NeverStarted,
            CallStage::Called | CallStage::Pending => End::Cancelled,
        });
    }
}

impl<R: GuardRef> fmt::Debug for CallGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGuard")
            .field("ended", &self.call.is_none())
            .finish_non_exhaustive()
    }
}
