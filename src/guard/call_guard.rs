//! Who gives a running call's permit back, however the call ends.

use super::{End, GuardBase};
use crate::{
    classify::Outcome,
    clock::{Now, Time},
    error::{Kind, RefusalMark, Rejected, limiter},
    shared::Shared,
};
use std::{fmt, mem, num::NonZeroU64, task::Poll, time::Duration};

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
///    is dropped later ends as [`End::TimedOut`] if a limit of the operator's cut it off in the
///    service, and else as [`End::Cancelled`].
/// 3. Code of the application runs inside `during` only, so that a panic in it ends the call as
///    [`End::Panicked`].
/// 4. The stages are passed in order, each at most once; the guard hears of the last one only.
/// 5. While the call is in a wait of another policy, `waits_since` says since when; the guard hears
///    of every such wait when it is over, and before it hears of the call's end.
pub struct CallGuard<R: GuardRef> {
    /// `None` once the call has ended or was taken.
    call: Option<(R, <R::Guard as GuardBase>::Permit)>,
    stage: CallStage,
    waits_since: Option<NonZeroU64>,
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
            waits_since: None,
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
            waits_since: self.waits_since.take(),
        }
    }

    /// Ends the call and settles its permit. Does nothing if the call has ended already.
    #[inline]
    pub fn end(&mut self, end: End) {
        if let Some((guard_ref, permit)) = self.call.take() {
            guard_ref.guard().settle(permit, end, &Now::lazy());
        }
    }

    /// Ends the call as one that a policy further in has rejected.
    #[cold]
    pub(crate) fn end_rejected(&mut self, rejected: &Rejected) {
        let reached = rejected.reached_service();
        self.end(match rejected.kind() {
            // This very service has no room. Its policy's wait is not the service's own.
            Kind::Overloaded => End::Done(Outcome::Overloaded { retry_after: None }),
            Kind::LoadFailed => End::Done(Outcome::Failure),
            Kind::TimedOut | Kind::DeadlineExceeded if !reached => End::Done(Outcome::Refused),
            Kind::TimedOut | Kind::DeadlineExceeded if rejected.is_callers_limit() => {
                End::Cancelled
            }
            Kind::TimedOut | Kind::DeadlineExceeded => End::TimedOut { limit: None },
            Kind::CircuitOpen | Kind::RateLimited | Kind::Throttled | Kind::NotReady => {
                End::Done(Outcome::Refused)
            }
        });
    }

    /// Tells the guard that the answer has begun, with this outcome, and that its body goes on.
    #[inline]
    pub(crate) fn answered(&mut self, outcome: Outcome) {
        if let Some((guard_ref, permit)) = &mut self.call {
            guard_ref.guard().on_answer(permit, outcome, &Now::lazy());
        }
    }

    /// Polls the call, or its response's body, and tells the guard what it has to know of a poll
    /// that did not end it. Returns the note of a refusal beside the result.
    #[inline]
    pub(crate) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<(T, RefusalMark)> {
        if self.waits_since.is_some() {
            self.end_wait();
        }
        let mark = RefusalMark::set();
        match self.during(|_| poll()) {
            Poll::Ready(result) => Poll::Ready((result, mark)),
            Poll::Pending => {
                self.on_pending(mark.waits());
                Poll::Pending
            }
        }
    }

    /// Tells the guard, once, that a poll of the call, or of its response's body, did not end it.
    /// A wait of another policy is told of when it is over.
    #[inline]
    fn on_pending(&mut self, waits: bool) {
        if waits {
            self.waits_since = NonZeroU64::new(Time::now().as_nanos());
        } else if self.stage != CallStage::Pending
            && let Some((guard_ref, permit)) = &mut self.call
        {
            self.stage = CallStage::Pending;
            guard_ref.guard().on_pending(permit, &Now::lazy());
        }
    }

    /// Tells the guard that a wait of another policy is over.
    #[cold]
    fn end_wait(&mut self) {
        if let Some(since) = self.waits_since.take()
            && let Some((guard_ref, permit)) = &mut self.call
        {
            let now = Now::lazy();
            let waited = now.get().since(Time::from_nanos(since.get()));
            guard_ref.guard().on_wait(permit, waited, &now);
        }
    }

    /// Tells the guard that all the time since it admitted the call was a wait, because another
    /// guard of the same tuple, or the service's readiness, was waited for.
    pub(crate) fn has_waited(&mut self) {
        debug_assert_eq!(self.stage, CallStage::Admitted, "before the call starts");
        if let Some((guard_ref, permit)) = &mut self.call {
            guard_ref
                .guard()
                .on_wait(permit, Duration::MAX, &Now::lazy());
        }
    }

    /// Ends a call that is being dropped, by its caller or by whoever cuts it off.
    #[cold]
    fn end_dropped(&mut self) {
        let waits = self.waits_since.is_some();
        self.end_wait();
        self.end(match limiter() {
            Some(limiter) if !limiter.is_caller() && !waits => End::TimedOut {
                limit: limiter.limit(),
            },
            _ => End::Cancelled,
        });
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
        match self.stage {
            _ if self.call.is_none() => {}
            CallStage::Admitted => self.end(End::NeverStarted),
            CallStage::Called | CallStage::Pending => self.end_dropped(),
        }
    }
}

impl<R: GuardRef> fmt::Debug for CallGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGuard")
            .field("ended", &self.call.is_none())
            .finish_non_exhaustive()
    }
}
