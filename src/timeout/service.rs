//! The timeout around a service's calls.

use super::{Timeout, alarm::Alarm};
use crate::{
    clock::Time,
    context,
    error::{FromRejected, Rejected, refuse},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// A [`Timeout`] as a tower layer.
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

/// A service whose calls have a timeout.
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

    // Always: its future is large, and would be copied.
    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        TimeoutFuture::start(&self.timeout, || self.inner.call(req))
    }
}

pin_project! {
    /// The response of a service with a timeout.
    pub struct TimeoutFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Running {
            #[pin]
            call: F,
            #[pin]
            alarm: Alarm,
            timeout: Timeout,
            // Of the context in which the call was made: its future may be polled in another.
            deadline: Option<Time>,
        },
        Over { rejected: Rejected },
    }
}

impl<F> TimeoutFuture<F> {
    #[inline(always)]
    pub(super) fn start(timeout: &Timeout, call: impl FnOnce() -> F) -> Self {
        let deadline = context::current().deadline;
        let state = match deadline {
            Some(deadline) if deadline <= Time::now() => State::Over {
                rejected: timeout.too_late(),
            },
            _ => State::Running {
                call: call(),
                alarm: Alarm::default(),
                timeout: timeout.clone(),
                deadline,
            },
        };
        Self { state }
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
        let mut state = self.project().state;
        let rejected = match state.as_mut().project() {
            StateProj::Running {
                call,
                alarm,
                timeout,
                deadline,
            } => {
                if let Poll::Ready(result) = call.poll(cx) {
                    return Poll::Ready(result);
                }
                let limit = |now: Time| {
                    let until = now.after(timeout.limit());
                    deadline.map_or(until, |deadline| until.min(deadline))
                };
                let until = ready!(alarm.poll(cx, limit));
                timeout.expired(until, *deadline)
            }
            StateProj::Over { rejected } => *rejected,
        };
        // Running => Over: the call has let go of everything when its caller hears of it.
        state.set(State::Over { rejected });
        Poll::Ready(Err(refuse(rejected)))
    }
}

impl<F> fmt::Debug for TimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture").finish_non_exhaustive()
    }
}
