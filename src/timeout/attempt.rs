//! The timeout of one attempt, around a service's calls.

use super::{
    Deadline, Timeout,
    limited::{LimitedCall, TimeLimit},
};
use crate::{
    clock::Time,
    context::Limiter,
    error::{FromRejected, Rejected},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// A tower layer that limits every call of a service by a [`Timeout`], made by [`Timeout::layer`].
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    timeout: Timeout,
}

impl TimeoutLayer {
    pub(super) fn new(timeout: Timeout) -> Self {
        Self { timeout }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = TimeoutService<S>;

    #[inline]
    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService {
            inner,
            timeout: self.timeout.clone(),
        }
    }
}

/// A service whose calls have a timeout, built by [`TimeoutLayer`].
///
/// It is ready when the inner service is. The wait for that is not part of the attempt.
///
/// # Clone
/// A clone has the same timeout, and shares its counts.
#[derive(Clone, Debug)]
pub struct TimeoutService<S /* `buttress::check` says why */> {
    inner: S,
    timeout: Timeout,
}

impl<S> TimeoutService<S> {
    inner_accessors!();
}

impl<S, Req> Service<Req> for TimeoutService<S>
where
    S: Service<Req>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        TimeoutFuture::start(&self.timeout, || self.inner.call(req))
    }
}

pin_project! {
    /// The response future of [`TimeoutService`].
    pub struct TimeoutFuture<F> {
        #[pin]
        call: LimitedCall<F, AttemptLimit>,
    }
}

/// The timeout of one attempt, or the deadline of the call that it belongs to.
struct AttemptLimit {
    timeout: Timeout,
    /// Of the context in which the call was made: its future may be polled in another.
    deadline: Option<Deadline>,
}

impl<F> TimeoutFuture<F> {
    // Always: the future is large, and would be copied.
    #[inline(always)]
    pub(super) fn start(timeout: &Timeout, call: impl FnOnce() -> F) -> Self {
        let deadline = Deadline::current();
        let limit = match deadline {
            Some(deadline) if deadline.time() <= Time::now() => Err(timeout.too_late(deadline)),
            _ => Ok(AttemptLimit {
                timeout: timeout.clone(),
                deadline,
            }),
        };
        Self {
            call: LimitedCall::start(limit, call),
        }
    }
}

impl TimeLimit for AttemptLimit {
    #[inline]
    fn until(&self, now: Time) -> Time {
        let until = now.after(self.timeout.limit());
        self.deadline
            .map_or(until, |deadline| until.min(deadline.time()))
    }

    fn limiter(&self, until: Time) -> Limiter {
        match self.deadline {
            Some(deadline) if deadline.time() <= until => deadline.limiter(),
            _ => Limiter::operator(self.timeout.limit()),
        }
    }

    fn expired(&self, until: Time) -> Rejected {
        self.timeout.expired(until, self.deadline)
    }
}

impl<F, T, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<F> fmt::Debug for TimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture").finish_non_exhaustive()
    }
}
