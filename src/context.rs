//! The context of a running call: its deadline, its criticality and the number of its attempt.
//!
//! It applies to everything that the call does in its own task, whatever the type of the request: a
//! handler that calls three clients does not have to pass its deadline to each of them. Tasks that
//! the call spawns do not inherit it; pass it on with [`Context::scope`]:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use buttress::context;
//!
//! let task = tokio::spawn(context::current().scope(async { context::current() }));
//! assert_eq!(task.await.unwrap(), context::current());
//! # }
//! ```

use crate::{
    clock::Time,
    criticality::Criticality,
    error::{Kind, Rejected},
    request_state::RequestState,
};
use pin_project_lite::pin_project;
#[cfg(any(feature = "circuit-breaker", feature = "timeout"))]
use std::time::Duration;
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

/// The context of a call: its deadline, its criticality and the number of its attempt.
///
/// [`current`] returns that of the call that is being polled on this thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// The moment at which the caller stops waiting, if there is one. Timeouts, deadline layers,
    /// retries and queues keep to it.
    pub deadline: Option<Time>,
    /// The number of the attempt at this call. The first is 1, and so is a call without retries.
    pub attempt: u32,
    /// How much the call matters; `None` if nobody has said so.
    pub criticality: Option<Criticality>,
    /// Whose the deadline is.
    pub(crate) limiter: Limiter,
    /// How the request is doing that the call works for.
    pub(crate) request: RequestState,
}

/// Whoever chose a limit: the caller, or the operator of this process; and how long it was.
///
/// One word: 0 is the caller, and everything else the length of the operator's limit in
/// nanoseconds, or [`UNKNOWN`](Self::UNKNOWN).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Limiter(u64);

impl Limiter {
    /// The caller: a deadline that came with a request.
    pub(crate) const CALLER: Self = Self(0);
    /// The operator, with a limit whose length is not known.
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// The operator, with a limit of this length.
    #[cfg(feature = "timeout")]
    pub(crate) fn operator(limit: Duration) -> Self {
        Self(crate::clock::nanos(limit).max(1))
    }

    /// Returns whether it is the caller's.
    pub(crate) fn is_caller(self) -> bool {
        self == Self::CALLER
    }

    /// Returns whoever it is, with a limit of which so much is over before the service is asked.
    #[cfg(feature = "timeout")]
    pub(crate) fn shortened_by(self, waited: Duration) -> Self {
        match self.limit() {
            Some(limit) => Self::operator(limit.saturating_sub(waited)),
            None => self,
        }
    }

    /// Returns how long the limit was, if that is known.
    #[cfg(any(feature = "circuit-breaker", feature = "timeout"))]
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::CALLER | Self::UNKNOWN => None,
            Self(nanos) => Some(Duration::from_nanos(nanos)),
        }
    }
}

const NOTHING: Context = Context {
    deadline: None,
    attempt: 1,
    criticality: None,
    limiter: Limiter::UNKNOWN,
    request: RequestState::UNWATCHED,
};

thread_local!(static CURRENT: Cell<Context> = const { Cell::new(NOTHING) });

/// Returns the context of the call that is being polled on this thread.
///
/// Outside of any call, the context has no deadline and no criticality, and its attempt is 1.
#[inline]
pub fn current() -> Context {
    CURRENT.get()
}

impl Context {
    /// Runs `f` (usually one poll) in this context, and then restores the former context, even if
    /// `f` panics.
    #[inline]
    pub fn enter<T>(self, f: impl FnOnce() -> T) -> T {
        struct Restore(Context);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        f()
    }

    /// Returns the rejection of a call that has missed this context's deadline, by the policy of
    /// this name.
    #[allow(dead_code)] // which features use it depends on which are on
    pub(crate) fn deadline_exceeded(&self, policy: &'static str) -> Rejected {
        let rejected = Rejected::new(Kind::DeadlineExceeded, policy);
        match self.limiter.is_caller() {
            true => rejected.by_callers_limit(),
            false => rejected,
        }
    }

    /// Returns a future that runs the given one in this context, whatever context it is polled or
    /// dropped in.
    ///
    /// Use it for tasks that a call spawns as a part of itself, so that they keep its deadline.
    pub const fn scope<F: Future>(self, future: F) -> ContextScope<F> {
        ContextScope {
            future: Entered::new(future, self),
        }
    }

    /// Returns this context with another criticality.
    ///
    /// A load shed with priorities prefers calls that matter more, and a client with
    /// `http::CriticalityHeaderClientLayer` tells the services that it calls. So a job that can
    /// wait gives way to users in every service:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use buttress::{Criticality, context};
    ///
    /// let sheddable = context::current().with_criticality(Criticality::Sheddable);
    /// sheddable.scope(async { /* calls of the job */ }).await;
    /// # }
    /// ```
    #[must_use]
    pub const fn with_criticality(self, criticality: Criticality) -> Self {
        Self {
            criticality: Some(criticality),
            ..self
        }
    }
}

pin_project! {
    /// The future that runs another one in a given context: see [`Context::scope`].
    ///
    /// The other one is dropped in that context too, whoever drops this one.
    #[derive(Debug)]
    pub struct ContextScope<F> {
        #[pin]
        future: Entered<F, Context>,
    }
}

impl<F: Future> Future for ContextScope<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

/// A context, or a part of one, that can be entered.
pub(crate) trait Enter {
    /// Runs `f` in this context.
    fn enter<T>(&self, f: impl FnOnce() -> T) -> T;
}

impl Enter for Context {
    #[inline]
    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        Self::enter(*self, f)
    }
}

pin_project! {
    /// A future or a body that is polled and dropped in a context of its own: what it lets go of
    /// then, such as the permit of a call, may ask for the context as well as what it does.
    #[derive(Debug)]
    pub(crate) struct Entered<T, C>
    where
        C: Enter,
    {
        // `None` once it is being dropped.
        #[pin]
        inner: Option<T>,
        context: C,
    }

    impl<T, C> PinnedDrop for Entered<T, C>
    where
        C: Enter,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.context.enter(|| this.inner.set(None));
        }
    }
}

impl<T, C: Enter> Entered<T, C> {
    #[inline]
    pub(crate) const fn new(inner: T, context: C) -> Self {
        Self {
            inner: Some(inner),
            context,
        }
    }

    /// Runs one poll in the context.
    #[inline]
    pub(crate) fn poll_with<R>(
        self: Pin<&mut Self>,
        poll: impl FnOnce(Pin<&mut T>) -> Poll<R>,
    ) -> Poll<R> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            debug_assert!(false, "what is being dropped is not polled");
            return Poll::Pending;
        };
        this.context.enter(|| poll(inner))
    }

    /// Returns the future or the body, unless it is being dropped.
    #[cfg(all(feature = "http", feature = "load-shed"))]
    pub(crate) const fn get(&self) -> Option<&T> {
        self.inner.as_ref()
    }
}

impl<F: Future, C: Enter> Future for Entered<F, C> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.poll_with(|future| future.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const INNER: Context = Context {
        deadline: Some(Time(9)),
        attempt: 3,
        criticality: Some(Criticality::Sheddable),
        limiter: Limiter::CALLER,
        request: RequestState::UNWATCHED,
    };

    #[test]
    fn a_context_ends_with_its_poll_even_in_a_panic() {
        assert_eq!(INNER.enter(current), INNER);
        let _ = catch_unwind(AssertUnwindSafe(|| INNER.enter(|| panic!("boom"))));
        assert_eq!(current(), NOTHING);
    }

    #[test]
    fn a_missed_deadline_says_whose_it_was() {
        let operators = Context {
            limiter: Limiter::operator(Duration::from_secs(1)),
            ..INNER
        };
        for (context, by_caller) in [(INNER, true), (operators, false), (NOTHING, false)] {
            let rejected = context.deadline_exceeded("api");
            assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
            assert_eq!(rejected.is_callers_limit(), by_caller);
        }
    }

    /// Tells in which context it was dropped.
    struct Tells<'a>(&'a Cell<Option<Context>>);
    impl Drop for Tells<'_> {
        fn drop(&mut self) {
            self.0.set(Some(current()));
        }
    }

    #[test]
    fn a_scope_holds_while_its_future_is_dropped_begun_or_not_and_also_in_a_panic() {
        for polls in [0, 1, 2] {
            let dropped = Cell::new(None);
            let tells = Tells(&dropped);
            let mut scope = tokio_test::task::spawn(INNER.scope(async move {
                let _tells = tells;
                tokio::task::yield_now().await;
            }));
            for _ in 0..polls {
                let _ = scope.poll();
            }
            drop(scope);
            assert_eq!(dropped.get(), Some(INNER), "after {polls} polls");
            assert_eq!(current(), NOTHING);
        }
        let dropped = Cell::new(None);
        let tells = Tells(&dropped);
        let scope = INNER.scope(async move {
            let _tells = tells;
            struct Panics;
            impl Drop for Panics {
                fn drop(&mut self) {
                    panic!("on purpose");
                }
            }
            let _panics = Panics;
            std::future::pending::<()>().await;
        });
        let mut scope = tokio_test::task::spawn(scope);
        assert!(scope.poll().is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(scope))).is_err());
        assert_eq!((dropped.get(), current()), (Some(INNER), NOTHING));
    }

    #[tokio::test]
    async fn a_scope_holds_in_every_poll_and_in_no_other_task() {
        let seen = INNER.scope(async {
            tokio::task::yield_now().await;
            let spawned = tokio::spawn(async { current() }).await;
            (current(), spawned.unwrap())
        });
        assert_eq!(seen.await, (INNER, NOTHING));
        assert_eq!(current(), NOTHING);
    }
}
