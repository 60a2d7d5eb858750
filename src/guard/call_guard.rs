//! Who gives a running call's permit back, however the call ends.

use super::{End, GuardBase, call_stage::CallStage};
use crate::{
    classify::Outcome,
    clock::Now,
    context,
    error::{Kind, RefusalMark, Rejected, cut_off, limiter, limiter_of},
    shared::Shared,
};
use std::{fmt, mem, task::Poll, time::Duration};

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

/// Access to a guard for a running call, and to the strategy that says what its end means.
pub trait StrategyRef: GuardRef {
    /// The type of the strategy.
    type Strategy;
    /// Returns the strategy.
    fn strategy(&self) -> &Self::Strategy;
}

/// Shared ownership of a guard and its [`Settle`](super::Settle) strategy.
///
/// # Clone
/// A clone is the same guard. Each thread has a reference count of its own, so cloning is as cheap
/// on many threads as on one.
pub struct SharedGuard<G, P>(pub(super) Shared<Core<G, P>>);

impl<R: StrategyRef> CallGuard<R> {
    /// Returns the strategy, or `None` if the call has ended.
    #[inline]
    pub fn strategy(&self) -> Option<&R::Strategy> {
        self.call
            .as_ref()
            .map(|(guard_ref, _)| guard_ref.strategy())
    }

    /// Ends the call with what `judge` makes of it. If `judge` panics, the call ends as
    /// [`End::Panicked`]. Does nothing if the call has ended already.
    // Always: for an answer that goes well it is next to nothing.
    #[inline(always)]
    pub fn end_as(&mut self, judge: impl FnOnce(&R::Strategy) -> End) {
        match self.during(|call| call.strategy().map(judge)) {
            Some(End::Done(outcome)) => self.end_as_outcome(outcome),
            Some(end) => self.end_badly(end),
            None => {}
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

impl<G: GuardBase, P> StrategyRef for SharedGuard<G, P> {
    type Strategy = P;
    #[inline]
    fn strategy(&self) -> &P {
        &self.0.settle
    }
}

/// An admitted call, which owns its permit.
///
/// # Invariants
/// 1. A permit is settled exactly once: by [`end`](Self::end), or when this is dropped. Whoever
///    [takes](Self::take) the call takes over that duty.
/// 2. A call that is dropped before the service was called ends as [`End::NeverStarted`]; one that
///    is dropped later ends as [`End::TimedOut`] if a limit of the operator's cut it off in the
///    service, and else as [`End::Cancelled`]; or as [`End::RequestFailed`], if its request broke
///    off or was being waited for.
/// 3. Code of the application runs inside `during` only, so that a panic in it ends the call as
///    [`End::Panicked`]; but the choice of a strategy runs before the call has started, and a panic
///    in it is the end of a call that never did.
/// 4. The stages are passed in order, each at most once; the guard hears of the last one only.
/// 5. While the call is in a wait of another policy, the stage says since when; the guard hears of
///    the beginning and of the end of every such wait, before it hears of the call's end.
pub struct CallGuard<R: GuardRef> {
    /// `None` once the call has ended or was taken.
    call: Option<(R, <R::Guard as GuardBase>::Permit)>,
    stage: CallStage,
}

impl<R: GuardRef> CallGuard<R> {
    #[inline]
    pub(crate) fn new(guard_ref: R, permit: <R::Guard as GuardBase>::Permit) -> Self {
        Self {
            call: Some((guard_ref, permit)),
            stage: CallStage::ADMITTED,
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

    /// Moves the call, before it starts, to another access to the same guard, made from the present
    /// one by code of the application. If that panics, the call never starts.
    pub(super) fn refer_by<R2>(mut self, refer: impl FnOnce(&R) -> R2) -> CallGuard<R2>
    where
        R2: GuardRef<Guard = R::Guard>,
    {
        debug_assert_eq!(self.stage, CallStage::ADMITTED, "before the call starts");
        let guard_ref = self.call.as_ref().map(|(old, _)| refer(old));
        CallGuard {
            call: guard_ref.zip(self.call.take().map(|(_, permit)| permit)),
            stage: self.stage,
        }
    }

    /// Ends the call and settles its permit. Does nothing if the call has ended already.
    pub fn end(&mut self, end: End) {
        if let Some((guard_ref, permit)) = self.call.take() {
            guard_ref.guard().settle(permit, end, &Now::lazy());
        }
    }

    /// Ends the call with this outcome.
    // Always: nearly all calls go well, and what is done then is compiled for that alone.
    #[inline(always)]
    pub(crate) fn end_as_outcome(&mut self, outcome: Outcome) {
        if outcome != Outcome::Success {
            self.end_badly(End::Done(outcome));
        } else if let Some((guard_ref, permit)) = self.call.take() {
            let success = End::Done(Outcome::Success);
            guard_ref.guard().settle(permit, success, &Now::lazy());
        }
    }

    /// Returns whether the call has ended, or was taken.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.call.is_none()
    }

    /// Ends a call that has not gone well: as [`End::RequestFailed`] if that is the doing of the
    /// request that it was made for, which broke off, or was still being waited for when the call
    /// was cut off.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_badly(&mut self, end: End) {
        let request = context::current().request;
        let cut_off = matches!(end, End::TimedOut | End::Cancelled);
        let failed = cut_off || end == End::Done(Outcome::Failure);
        self.end(
            match failed && request.has_failed() || cut_off && request.is_awaited() {
                true => End::RequestFailed,
                false => end,
            },
        );
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

    /// Ends the call as one that a policy further in has rejected.
    #[cold]
    pub(crate) fn end_rejected(&mut self, rejected: &Rejected) {
        let reached = rejected.reached_service();
        self.end_badly(match rejected.kind() {
            // This very service has no room. Its policy's wait is not the service's own.
            Kind::Overloaded => End::Done(Outcome::Overloaded { retry_after: None }),
            Kind::LoadFailed => End::Done(Outcome::Failure),
            Kind::TimedOut | Kind::DeadlineExceeded if !reached => End::Done(Outcome::Refused),
            Kind::TimedOut | Kind::DeadlineExceeded if rejected.is_callers_limit() => {
                End::Cancelled
            }
            Kind::TimedOut | Kind::DeadlineExceeded => {
                // As if it were being cut off now: how long the limit was is to be known.
                let limiter = limiter_of(rejected);
                return cut_off(limiter, || self.end_badly(End::TimedOut));
            }
            Kind::CircuitOpen | Kind::RateLimited | Kind::Throttled | Kind::NotReady => {
                End::Done(Outcome::Refused)
            }
        });
    }

    /// Ends the call as one that a policy further in has rejected, if that is what this error is.
    // By value, because what a reference is made to lies in memory, also where there is no error.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_if_rejected<E: 'static>(&mut self, mark: RefusalMark, error: E) -> E {
        if let Some(rejected) = self.during(|_| mark.rejection(&error)) {
            self.end_rejected(&rejected);
        }
        error
    }

    /// Tells the guard that the answer has begun, with this outcome, and that its body goes on.
    #[cfg(feature = "http")]
    #[inline]
    pub(crate) fn answered(&mut self, outcome: Outcome) {
        if let Some((guard_ref, permit)) = &mut self.call {
            guard_ref.guard().on_answer(permit, outcome, &Now::lazy());
        }
    }

    /// Polls the call, or its response's body, and tells the guard what it has to know of a poll
    /// that did not end it. The mark was set just before.
    // Always: the result would be returned in memory.
    #[inline(always)]
    pub(crate) fn poll<T>(&mut self, mark: RefusalMark, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if self.stage.is_waiting() {
            self.end_wait();
        }
        match self.during(|_| poll()) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                self.on_pending(mark);
                Poll::Pending
            }
        }
    }

    /// Tells the guard, once, that a poll of the call, or of its response's body, did not end it;
    /// or that it ended in a wait of another policy. Apart, so that a poll that ends the call is
    /// short enough to be inlined.
    #[inline(never)]
    fn on_pending(&mut self, mark: RefusalMark) {
        if mark.waits() {
            self.begin_wait();
        } else if self.stage != CallStage::PENDING
            && let Some((guard_ref, permit)) = &mut self.call
        {
            self.stage = CallStage::PENDING;
            guard_ref.guard().on_pending(permit, &Now::lazy());
        }
    }

    /// Tells the guard that a wait of another policy has begun.
    #[cold]
    fn begin_wait(&mut self) {
        let now = Now::lazy();
        self.stage = self.stage.waits(now.get());
        if let Some((guard_ref, permit)) = &mut self.call {
            guard_ref.guard().on_wait_begin(permit, &now);
        }
    }

    /// Tells the guard that a wait of another policy is over.
    #[cold]
    fn end_wait(&mut self) {
        let Some(since) = self.stage.waits_since() else {
            return;
        };
        self.stage = self.stage.before_wait();
        if let Some((guard_ref, permit)) = &mut self.call {
            let now = Now::lazy();
            let waited = now.get().since(since);
            guard_ref.guard().on_wait_end(permit, waited, &now);
        }
    }

    /// Tells the guard that the call goes on, and will not be polled.
    pub(super) fn held(&mut self) {
        self.on_pending(RefusalMark::set());
    }

    /// Polls whether the service is ready, for which the admitted call waits, and tells the guard
    /// of that wait.
    pub(super) fn poll_ready<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.end_readying();
        let polled = self.during(|_| poll());
        if polled.is_pending()
            && let Some((guard_ref, permit)) = &mut self.call
        {
            debug_assert_eq!(self.stage, CallStage::ADMITTED, "before the call starts");
            self.stage = CallStage::READYING;
            guard_ref.guard().on_wait_begin(permit, &Now::lazy());
        }
        polled
    }

    /// Tells the guard that a wait for the service's readiness is over. It has taken all the time
    /// since the call was admitted.
    fn end_readying(&mut self) {
        if self.stage == CallStage::READYING
            && let Some((guard_ref, permit)) = &mut self.call
        {
            self.stage = CallStage::ADMITTED;
            guard_ref
                .guard()
                .on_wait_end(permit, Duration::MAX, &Now::lazy());
        }
    }

    /// Ends a call that is being dropped: before it started, by its caller or by whoever cuts it
    /// off.
    // By value, so that what is dropped has ended for the compiler too.
    #[cold]
    #[inline(never)]
    fn end_dropped(mut self) {
        self.end_readying();
        if self.stage == CallStage::ADMITTED {
            return self.end(End::NeverStarted);
        }
        let waits = self.stage.is_waiting();
        self.end_wait();
        self.end_badly(match limiter() {
            Some(limiter) if !limiter.is_caller() && !waits => End::TimedOut,
            _ => End::Cancelled,
        });
    }

    /// Calls the service. From now on, a call that is dropped has been cancelled.
    #[inline]
    pub(crate) fn start<T>(&mut self, call: impl FnOnce() -> T) -> T {
        debug_assert_eq!(self.stage, CallStage::ADMITTED, "a call starts once");
        self.stage = CallStage::CALLED;
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
        if !self.has_ended() {
            self.take().end_dropped();
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

#[cfg(test)]
mod tests {
    use super::*;

    // Larger ends are returned through memory, in every call.
    #[test]
    fn an_end_is_two_words() {
        assert_eq!(size_of::<End>(), 16);
    }
}
