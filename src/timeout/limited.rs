//! A call that may take only so long: what timeouts and deadlines have in common.
//!
//! The clock decides and the timer only wakes. Without the clock, a call that uses up its task's
//! whole cooperative budget in every poll would keep the timer from ever being looked at.

use crate::{
    clock::Time,
    context::Limiter,
    error::{FromRejected, RefusalMark, Rejected, cut_off, refuse},
};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Sleep, sleep_until};

/// How long a call may take, and what it is told when that is over.
pub(super) trait TimeLimit {
    /// Returns when the call has to be over. Asked once, when the call is first pending.
    fn until(&self, now: Time) -> Time;

    /// Returns whose limit it is that ends at `until`.
    fn limiter(&self, until: Time) -> Limiter;

    /// Counts and returns the rejection of a call that was not over by `until`.
    fn expired(&self, until: Time) -> Rejected;
}

pin_project! {
    /// A call under a limit, or the rejection that it has become.
    ///
    /// # Invariants
    /// 1. The limit's end is fixed when the call is first pending, and does not change.
    /// 2. When the caller gets the rejection, the call has been dropped.
    pub(super) struct LimitedCall<F, L> {
        #[pin]
        state: State<F, L>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L> {
        Running { #[pin] call: F, #[pin] alarm: Alarm, limit: L },
        Over { rejected: Rejected },
    }
}

impl<F, L: TimeLimit> LimitedCall<F, L> {
    /// Makes the call under its limit, or keeps the rejection of one that came too late.
    // Always: the future is large, and would be copied.
    #[inline(always)]
    pub(super) fn start(limit: Result<L, Rejected>, call: impl FnOnce() -> F) -> Self {
        match limit {
            Ok(limit) => Self::start_within(limit, call),
            Err(rejected) => Self::over(rejected),
        }
    }

    /// Makes the call under its limit.
    #[inline(always)]
    pub(super) fn start_within(limit: L, call: impl FnOnce() -> F) -> Self {
        let state = State::Running {
            call: call(),
            alarm: Alarm::default(),
            limit,
        };
        Self { state }
    }

    /// Keeps the rejection of a call that came too late.
    #[inline(always)]
    pub(super) fn over(rejected: Rejected) -> Self {
        Self {
            state: State::Over { rejected },
        }
    }

    /// Returns the limit of a call that has been answered, and its end if that is fixed already.
    #[cfg(feature = "http")]
    pub(super) fn limit(&self) -> Option<(&L, Option<Time>)> {
        match &self.state {
            State::Running { alarm, limit, .. } => Some((limit, alarm.until)),
            State::Over { .. } => None,
        }
    }
}

impl<F, L, T, E> Future for LimitedCall<F, L>
where
    F: Future<Output = Result<T, E>>,
    L: TimeLimit,
    E: FromRejected,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let (rejected, limiter) = match state.as_mut().project() {
            StateProj::Running {
                call,
                mut alarm,
                limit,
            } => {
                let mark = RefusalMark::set();
                if let Poll::Ready(result) = call.poll(cx) {
                    return Poll::Ready(result);
                }
                if !mark.waits() {
                    *alarm.as_mut().project().in_service = true;
                }
                let until = ready!(alarm.as_mut().poll(cx, |now| limit.until(now)));
                let rejected = limit.expired(until);
                // All of its time went by in waits of policies further in.
                let rejected = match *alarm.project().in_service {
                    true => rejected.having_reached_service(),
                    false => rejected.without_reaching_service(),
                };
                (rejected, limit.limiter(until))
            }
            StateProj::Over { rejected } => return Poll::Ready(Err(refuse(*rejected))),
        };
        // Running => Over: the call has let go of everything when its caller hears of it.
        cut_off(limiter, || state.set(State::Over { rejected }));
        Poll::Ready(Err(refuse(rejected)))
    }
}

pin_project! {
    /// The one timer of a call, made only if the call turns out to need it.
    #[derive(Debug, Default)]
    struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        until: Option<Time>,
        // Whether the call was ever pending for another reason than a policy's wait.
        in_service: bool,
    }
}

impl Alarm {
    /// Returns the time it was set to once that has come. Polled whenever the call is pending.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        set: impl FnOnce(Time) -> Time,
    ) -> Poll<Time> {
        let mut this = self.project();
        let now = Time::now();
        let until = match *this.until {
            Some(until) => until,
            None => {
                let until = set(now);
                *this.until = Some(until);
                // A limit beyond the end of time needs no timer.
                if now < until && until < Time(u64::MAX) {
                    this.sleep.set(Some(sleep_until(until.to_instant())));
                }
                until
            }
        };
        if now >= until {
            return Poll::Ready(until);
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| until),
            None => {
                debug_assert_eq!(until, Time(u64::MAX), "nothing wakes this call in time");
                Poll::Pending
            }
        }
    }
}
