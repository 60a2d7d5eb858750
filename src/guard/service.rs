//! The one layer, service and future for guards that decide at once.

use super::{
    Admission, CallGuard, End, Guard, GuardBase, GuardRef, Immediate, OnResponse, Settle, Strategy,
    held::SharedGuard, layer::GuardLayer,
};
use crate::{
    clock::Now,
    error::{FromRejected, Kind, Mark, Rejected, refuse},
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

impl<S, G: GuardBase, P: Strategy> Layer<S> for GuardLayer<G, P> {
    type Service = GuardService<S, G, P>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        GuardService {
            inner,
            ready: true,
            core: self.core.clone(),
        }
    }
}

/// A service behind a guard that decides at once.
pub struct GuardService<S, G, P = OnResponse> {
    inner: S,
    /// False while the inner service is known not to be ready.
    ready: bool,
    core: SharedGuard<G, P>,
}

impl<S: Clone, G, P> Clone for GuardService<S, G, P> {
    #[inline]
    fn clone(&self) -> Self {
        // Readiness is the clone's own to find out.
        Self {
            inner: self.inner.clone(),
            ready: true,
            core: self.core.clone(),
        }
    }
}

impl<S: fmt::Debug, G: fmt::Debug, P> fmt::Debug for GuardService<S, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardService")
            .field("inner", &self.inner)
            .field("guard", &self.core.0.guard)
            .finish()
    }
}

impl<S, Req, G, P> Service<Req> for GuardService<S, G, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    G: Guard<Req>,
    G::Wait: Immediate,
    P: Settle<S::Response, S::Error>,
{
    type Response = P::Response<G>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future, G, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.inner.poll_ready(cx) {
            Poll::Pending => ready_to_refuse(self.core.guard(), &mut self.ready, cx),
            ready => {
                self.ready = true;
                ready
            }
        }
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let now = Now::lazy();
        match self.core.guard().admit(&req, &now) {
            Admission::Admitted(permit) => {
                let held = CallGuard::new(self.core.clone(), permit);
                GuardFuture::admitted(held, self.ready, || self.inner.call(req))
            }
            Admission::Refused(rejected) => GuardFuture::refused(rejected),
            Admission::Wait(wait) => wait.never(),
        }
    }
}

/// The inner service is not ready: then neither are we, unless nothing is let in at the moment. A
/// rejection must not wait for a service that it will not call.
pub(super) fn ready_to_refuse<E>(
    guard: &impl GuardBase,
    ready: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), E>> {
    *ready = false;
    match guard.poll_closed(cx, &Now::lazy()) {
        true => Poll::Ready(Ok(())),
        false => Poll::Pending,
    }
}

pin_project! {
    /// The response of a guarded service.
    pub struct GuardFuture<F, G: GuardBase, P> {
        #[pin]
        state: State<F, G, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, G: GuardBase, P> {
        // Fields drop in order: the call before its permit.
        Running { #[pin] call: F, held: CallGuard<SharedGuard<G, P>> },
        Refused { rejected: Rejected },
    }
}

impl<F, G: GuardBase, P> GuardFuture<F, G, P> {
    #[inline]
    pub(super) fn running(call: F, held: CallGuard<SharedGuard<G, P>>) -> Self {
        Self {
            state: State::Running { call, held },
        }
    }

    /// Calls the service, if it is ready.
    #[inline(always)]
    pub(super) fn admitted(
        mut held: CallGuard<SharedGuard<G, P>>,
        ready: bool,
        call: impl FnOnce() -> F,
    ) -> Self {
        if !ready {
            return Self::not_ready(held);
        }
        Self::running(held.start(call), held)
    }

    #[inline]
    pub(super) fn refused(rejected: Rejected) -> Self {
        Self {
            state: State::Refused { rejected },
        }
    }

    /// The guard would refuse when `poll_ready` asked, but has changed its mind; the inner service
    /// still is not ready, and must not be called.
    #[cold]
    fn not_ready(mut held: CallGuard<SharedGuard<G, P>>) -> Self {
        held.end(End::NeverStarted);
        Self::refused(Rejected::new(Kind::NotReady, "inner service"))
    }
}

impl<F, T, E, G, P> Future for GuardFuture<F, G, P>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    G: GuardBase,
    P: Settle<T, E>,
{
    type Output = Result<P::Response<G>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Running { call, held } => {
                let mark = Mark::set();
                let result = held.during(|_| call.poll(cx));
                if result.is_pending() {
                    held.on_pending();
                }
                let result = ready!(result);
                if result.is_err()
                    && let Some(rejected) = mark.refusal()
                {
                    held.end_rejected(&rejected);
                }
                Poll::Ready(P::settle(held, result))
            }
            StateProj::Refused { rejected } => Poll::Ready(Err(refuse(*rejected))),
        }
    }
}

impl<F, G: GuardBase, P> fmt::Debug for GuardFuture<F, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardFuture").finish_non_exhaustive()
    }
}
