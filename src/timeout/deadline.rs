//! The deadline of a whole call, and all that it causes.

use crate::{
    clock::{Time, nanos},
    context::{self, Enter, Entered, Limiter},
    error::{Kind, Rejected},
};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// The moment at which the caller stops waiting.
///
/// It is kept in the task's [context](crate::context) and not in the request. So it reaches every
/// policy and every client that a handler uses, whatever their requests look like, without being
/// passed on by hand. A call's deadline never gets later: within another deadline that comes
/// sooner, setting one changes nothing.
///
/// A task that the handler spawns has a context of its own. Give it the deadline with
/// [`scope`](Self::scope):
///
/// ```
/// use buttress::timeout::Deadline;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let deadline = Deadline::current().unwrap_or(Deadline::within(Duration::from_secs(3)));
/// let task = tokio::spawn(deadline.scope(async { Deadline::current() }));
/// assert_eq!(task.await.unwrap(), Some(deadline));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Deadline {
    time: Time,
    /// Whose it is: what a service is blamed for depends on that.
    limiter: Limiter,
}

impl Deadline {
    /// The end of time.
    pub(crate) const NEVER: Self = Self::at(Time(u64::MAX));

    /// Returns the deadline that is this long from now, as one that the operator of this process
    /// has set.
    pub fn within(time: Duration) -> Self {
        Self::within_from(time, Time::now())
    }

    pub(crate) fn within_from(time: Duration, now: Time) -> Self {
        Self {
            time: now.after(time),
            limiter: Limiter::operator(time),
        }
    }

    /// Returns the deadline at this moment, as one that the operator of this process has set.
    pub const fn at(time: Time) -> Self {
        Self {
            time,
            limiter: Limiter::UNKNOWN,
        }
    }

    /// Returns this deadline as one that the caller has chosen. For a deadline that came with a
    /// request, however it is carried: that a service missed it says little about the service.
    ///
    /// The layers for [`DEADLINE_HEADER`](crate::http) do so by themselves.
    #[must_use]
    pub const fn of_caller(self) -> Self {
        Self {
            limiter: Limiter::CALLER,
            ..self
        }
    }

    /// Returns the deadline of the call that is running, if it has one.
    pub fn current() -> Option<Self> {
        let context = context::current();
        let limiter = context.limiter;
        context.deadline.map(|time| Self { time, limiter })
    }

    /// Returns the moment itself.
    pub const fn time(self) -> Time {
        self.time
    }

    /// Returns whether it is a deadline at all, and not the end of time.
    pub(crate) const fn is_some(self) -> bool {
        self.time.0 < Self::NEVER.time.0
    }

    /// Returns whose deadline it is.
    pub(crate) const fn limiter(self) -> Limiter {
        self.limiter
    }

    /// Returns the rejection of a call that missed it, by the policy of this name.
    pub(crate) fn exceeded(self, policy: &'static str) -> Rejected {
        let rejected = Rejected::new(Kind::DeadlineExceeded, policy);
        match self.limiter.is_caller() {
            true => rejected.by_callers_limit(),
            false => rejected,
        }
    }

    /// Returns how long it is until the deadline: zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.time.since(Time::now())
    }

    /// Returns a future that runs the given one under this deadline, or under that of the
    /// [context](crate::context) if it comes sooner.
    ///
    /// The future is not cut off at the deadline, but the policies and clients inside it keep to
    /// it, also while it is dropped.
    pub fn scope<F: Future>(self, future: F) -> DeadlineScope<F> {
        DeadlineScope {
            future: Entered::new(future, self),
        }
    }

    /// Runs `f` under this deadline, or under the context's if that comes sooner.
    #[inline]
    pub(crate) fn enter<T>(self, f: impl FnOnce() -> T) -> T {
        let mut context = context::current();
        if self.time < context.deadline.unwrap_or(Time(u64::MAX)) {
            context.deadline = Some(self.time);
            context.limiter = self.limiter;
        }
        context.enter(f)
    }

    /// Returns the deadline that comes this much sooner, because so much of its time has gone by.
    pub(super) fn sooner_by(self, waited: Duration) -> Self {
        match self.is_some() {
            true => Self {
                time: Time(self.time.0.saturating_sub(nanos(waited))),
                limiter: self.limiter.shortened_by(waited),
            },
            false => self,
        }
    }

    /// Returns the sooner of this deadline and the context's.
    pub(crate) fn or_sooner(self) -> Self {
        match Self::current() {
            Some(current) if current.time <= self.time => current,
            _ => self,
        }
    }
}

pin_project! {
    /// The future that runs another one under a deadline: see [`Deadline::scope`].
    ///
    /// The other one is dropped under that deadline too.
    #[derive(Debug)]
    pub struct DeadlineScope<F> {
        #[pin]
        future: Entered<F, Deadline>,
    }
}

impl<F: Future> Future for DeadlineScope<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl Enter for Deadline {
    #[inline]
    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        Self::enter(*self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Tells under which deadline it was dropped.
    struct Tells<'a>(&'a Cell<Option<Deadline>>);
    impl Drop for Tells<'_> {
        fn drop(&mut self) {
            self.0.set(Deadline::current());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_holds_while_its_future_is_dropped() {
        let (deadline, dropped) = (Deadline::within(Duration::from_secs(1)), Cell::new(None));
        let later = Deadline::within(Duration::from_secs(2)).of_caller();
        for outer in [None, Some(later)] {
            let tells = Tells(&dropped);
            let mut scope = tokio_test::task::spawn(deadline.scope(async move {
                let _tells = tells;
                std::future::pending::<()>().await;
            }));
            assert!(scope.poll().is_pending());
            match outer {
                None => drop(scope),
                Some(outer) => outer.enter(|| drop(scope)),
            }
            assert_eq!(dropped.take(), Some(deadline));
            assert_eq!(Deadline::current(), None);
        }
    }
}
