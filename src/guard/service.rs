//! The one service and future for guards that decide at once.

use super::{
    Admission, AnyStrategy, CallGuard, End, Guard, GuardBase, GuardRef, Immediate, OnResponse,
    Settle, StrategyFor, StrategyRef, call_guard::SharedGuard, layer::GuardLayer,
};
use crate::{
    clock::Now,
    error::{FromRejected, Kind, RefusalMark, Rejected, refuse},
    shared::{by_itself, ready_apart},
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

impl<S, G: GuardBase, P: AnyStrategy> Layer<S> for GuardLayer<G, P> {
    type Service = GuardService<S, G, P>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        GuardService {
            inner,
            inner_ready: true,
            core: self.core.clone(),
        }
    }
}

/// A service behind a guard that decides at once, built by [`GuardLayer`].
///
/// It is ready when the inner service is, or when the guard would refuse every call: a rejection
/// need not wait for a service that will not be called.
///
/// # Clone
/// A clone is behind the same guard, and becomes ready on its own.
pub struct GuardService<S, G, P = OnResponse /* `buttress::check` says why */> {
    inner: S,
    /// False while the inner service is known not to be ready.
    inner_ready: bool,
    core: SharedGuard<G, P>,
}

impl<S, G, P> GuardService<S, G, P> {
    inner_accessors!();
}

impl<S: Clone, G, P> Clone for GuardService<S, G, P> {
    #[inline]
    fn clone(&self) -> Self {
        // Readiness is the clone's own to find out.
        Self {
            inner: self.inner.clone(),
            inner_ready: true,
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
    P: StrategyFor<Req>,
    P::Strategy: Settle<S::Response, S::Error>,
{
    type Response = <P::Strategy as Settle<S::Response, S::Error>>::Response<P::Ref<G>>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future, P::Ref<G>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mark = RefusalMark::set();
        match self.inner.poll_ready(cx) {
            Poll::Pending => ready_to_refuse(self.core.guard(), &mut self.inner_ready, cx),
            Poll::Ready(Ok(())) => {
                self.inner_ready = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                tell_unready(self.core.guard(), mark, &error);
                Poll::Ready(Err(error))
            }
        }
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let now = Now::lazy();
        match self.core.guard().admit(&req, &now) {
            Admission::Admitted(permit) => {
                let call_guard = CallGuard::new(self.core.clone(), permit);
                let call_guard = P::settling(call_guard, &req);
                GuardFuture::admitted(call_guard, self.inner_ready, || self.inner.call(req))
            }
            Admission::Refused(rejected) => GuardFuture::refused(rejected),
            Admission::Wait(wait) => wait.never(),
        }
    }
}

/// The readiness of a guarded service whose inner service is not ready: ready only if the guard
/// would refuse any call.
pub(super) fn ready_to_refuse<E>(
    guard: &impl GuardBase,
    inner_ready: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), E>> {
    *inner_ready = false;
    match guard.poll_closed(cx, &Now::lazy()) {
        true => Poll::Ready(Ok(())),
        false => Poll::Pending,
    }
}

/// Tells the guard that the inner service failed to become ready, unless a policy below refused.
#[cold]
pub(super) fn tell_unready<E: 'static>(guard: &impl GuardBase, mark: RefusalMark, error: &E) {
    let failed = |rejected: Rejected| rejected.kind().is_failure();
    if mark.rejection(error).is_none_or(failed) {
        guard.ready_failed(&Now::lazy());
    }
}

pin_project! {
    /// The response future of [`GuardService`] and [`ReserveService`](super::ReserveService).
    pub struct GuardFuture<F, R: GuardRef> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, R: GuardRef> {
        // Fields drop in order: the call before its permit.
        Running { #[pin] call: F, call_guard: CallGuard<R> },
        Refused { rejected: Rejected },
    }
}

impl<F, R: GuardRef> GuardFuture<F, R> {
    #[inline]
    pub(super) fn running(call: F, call_guard: CallGuard<R>) -> Self {
        Self {
            state: State::Running { call, call_guard },
        }
    }

    /// Calls the service, if it is ready.
    #[inline(always)]
    pub(super) fn admitted(
        mut call_guard: CallGuard<R>,
        inner_ready: bool,
        call: impl FnOnce() -> F,
    ) -> Self {
        if !inner_ready {
            never_started(call_guard);
            return Self::refused(Rejected::new(Kind::NotReady, "inner service"));
        }
        Self::running(call_guard.start(call), call_guard)
    }

    #[inline]
    pub(super) fn refused(rejected: Rejected) -> Self {
        Self {
            state: State::Refused { rejected },
        }
    }
}

/// Ends the call: the guard would refuse when `poll_ready` asked, but has changed its mind; the
/// inner service still is not ready, and must not be called.
// Returns nothing: a future that somebody else has written to is copied as a whole.
#[cold]
#[inline(never)]
fn never_started<R: GuardRef>(mut call_guard: CallGuard<R>) {
    call_guard.end(End::NeverStarted);
}

impl<F, T, E, R> Future for GuardFuture<F, R>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    R: StrategyRef,
    R::Strategy: Settle<T, E>,
{
    type Output = Result<<R::Strategy as Settle<T, E>>::Response<R>, E>;

    // Always: as a call of its own it would be handed the whole of the future, and the result, in
    // memory.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Running { call, call_guard } => {
                let mark = RefusalMark::set();
                // Two ends, so that an answer need not lie where an error would, which is larger.
                match ready!(call_guard.poll(mark, || call.poll(cx))) {
                    Ok(response) => {
                        let response = by_itself(response);
                        ready_apart(R::Strategy::settle(call_guard, Ok(response)))
                    }
                    Err(error) => Poll::Ready(settle_error(call_guard, mark, error)),
                }
            }
            StateProj::Refused { rejected } => Poll::Ready(Err(refuse(*rejected))),
        }
    }
}

/// Ends a call with an error, which may be a rejection by a policy further in.
#[cold]
#[inline(never)]
fn settle_error<T, E: 'static, R>(
    call_guard: &mut CallGuard<R>,
    mark: RefusalMark,
    error: E,
) -> Result<<R::Strategy as Settle<T, E>>::Response<R>, E>
where
    R: StrategyRef,
    R::Strategy: Settle<T, E>,
{
    let error = call_guard.end_if_rejected(mark, error);
    R::Strategy::settle(call_guard, Err(error))
}

impl<F, R: GuardRef> fmt::Debug for GuardFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardFuture").finish_non_exhaustive()
    }
}
