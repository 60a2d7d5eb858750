//! The one service and future for guards that may wait.
//!
//! Apart from `service.rs` because a waiting call needs the request, and a service of its own to
//! call when the wait is over: `S: Clone`, which a guard that decides at once does not ask for.

use super::{
    Admission, AnyStrategy, CallGuard, Guard, GuardBase, GuardFuture, GuardRef, OnResponse, Settle,
    StrategyFor, WaitProgress,
    call_guard::SharedGuard,
    layer::WaitLayer,
    service::{ready_to_refuse, tell_unready},
};
use crate::{
    clock::{Now, Time},
    error::{FromRejected, RefusalMark, note_wait, refuse},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

impl<S, G: GuardBase, P: AnyStrategy> Layer<S> for WaitLayer<G, P> {
    type Service = WaitService<S, G, P>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        WaitService {
            inner,
            inner_ready: true,
            core: self.core.clone(),
        }
    }
}

/// A service behind a guard that may wait, built by [`WaitLayer`].
///
/// It is ready when the inner service is, or when the guard would refuse every call. Calls wait in
/// their futures, not in `poll_ready`.
///
/// # Clone
/// A clone is behind the same guard, and becomes ready on its own. The inner service is also cloned
/// for each call that waits.
pub struct WaitService<S, G, P = OnResponse /* `buttress::check` says why */> {
    inner: S,
    /// False while the inner service is known not to be ready.
    inner_ready: bool,
    core: SharedGuard<G, P>,
}

impl<S, G, P> WaitService<S, G, P> {
    inner_accessors!();
}

impl<S: Clone, G, P> Clone for WaitService<S, G, P> {
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

impl<S: fmt::Debug, G: fmt::Debug, P> fmt::Debug for WaitService<S, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitService")
            .field("inner", &self.inner)
            .field("guard", &self.core.0.guard)
            .finish()
    }
}

impl<S, Req, G, P> Service<Req> for WaitService<S, G, P>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    G: Guard<Req>,
    P: StrategyFor<Req>,
    P::Strategy: Settle<S::Response, S::Error>,
{
    type Response = <P::Strategy as Settle<S::Response, S::Error>>::Response<P::Ref<G>>;
    type Error = S::Error;
    type Future = WaitFuture<S, Req, S::Future, G, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A call that waits gets a service of its own, so a ready one is always asked for: whether
        // this call will wait is not known before its request is.
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
        let state = match self.core.guard().admit(&req, &now) {
            Admission::Admitted(permit) => {
                let call_guard = CallGuard::new(self.core.clone(), permit);
                let call_guard = P::settling(call_guard, &req);
                let inner_ready = self.inner_ready;
                State::Called {
                    call: GuardFuture::admitted(call_guard, inner_ready, || self.inner.call(req)),
                }
            }
            Admission::Refused(rejected) => State::Called {
                call: GuardFuture::refused(rejected),
            },
            Admission::Wait(wait) => {
                let wait = WaitGuard::new(self.core.clone(), wait);
                // The ready service stays with the caller that made it ready; this call asks again
                // when its wait is over.
                let inner = self.inner.clone();
                State::Waiting {
                    wait,
                    timer: None,
                    next: Some((inner, req)),
                }
            }
        };
        WaitFuture { state }
    }
}

/// A wait that has to end.
///
/// # Invariants
/// 1. A wait is either [finished](Self::finish), when the guard has said that it is over, or
///    abandoned in the drop; never both.
/// 2. The guard is not asked about a wait that is over.
pub(super) struct WaitGuard<R: GuardRef>(Option<(R, <R::Guard as GuardBase>::Wait)>);

impl<R: GuardRef> WaitGuard<R> {
    pub(super) fn new(guard_ref: R, wait: <R::Guard as GuardBase>::Wait) -> Self {
        Self(Some((guard_ref, wait)))
    }

    pub(super) fn poll<Req>(
        &mut self,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<<R::Guard as GuardBase>::Permit>
    where
        R::Guard: Guard<Req>,
    {
        match &mut self.0 {
            Some((guard_ref, wait)) => guard_ref.guard().poll_wait(wait, req, cx, now),
            None => {
                debug_assert!(false, "a wait was polled after it was over");
                WaitProgress::Pending(None)
            }
        }
    }

    /// Ends the wait without abandoning it: the guard has said that it is over.
    pub(super) fn finish(&mut self) -> Option<R> {
        self.0.take().map(|(guard_ref, _)| guard_ref)
    }
}

impl<R: GuardRef> Drop for WaitGuard<R> {
    fn drop(&mut self) {
        if let Some((guard_ref, wait)) = self.0.take() {
            guard_ref.guard().abandon(wait, &Now::lazy());
        }
    }
}

pin_project! {
    /// The response future of [`WaitService`].
    pub struct WaitFuture<S, Req, F, G: GuardBase, P: StrategyFor<Req>> {
        #[pin]
        state: State<S, Req, F, G, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F, G: GuardBase, P: StrategyFor<Req>> {
        // `next` is there until the state is left.
        Waiting {
            wait: WaitGuard<SharedGuard<G, P>>,
            #[pin]
            timer: Option<Sleep>,
            next: Option<(S, Req)>,
        },
        // So is `req`.
        Readying { inner: S, req: Option<Req>, call_guard: CallGuard<SharedGuard<G, P>> },
        Called { #[pin] call: GuardFuture<F, P::Ref<G>> },
    }
}

impl<S, Req, G, P> Future for WaitFuture<S, Req, S::Future, G, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    G: Guard<Req>,
    P: StrategyFor<Req>,
    P::Strategy: Settle<S::Response, S::Error>,
{
    type Output =
        Result<<P::Strategy as Settle<S::Response, S::Error>>::Response<P::Ref<G>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { call } => return call.poll(cx),

                // Waiting => Readying | refused
                StateProj::Waiting {
                    wait,
                    mut timer,
                    next,
                } => {
                    let Some((_, req)) = next.as_ref() else {
                        return after_its_end();
                    };
                    match wait.poll(req, cx, &Now::lazy()) {
                        WaitProgress::Admitted(permit) => {
                            let (Some((inner, req)), Some(guard_ref)) =
                                (next.take(), wait.finish())
                            else {
                                return after_its_end();
                            };
                            state.set(State::Readying {
                                inner,
                                req: Some(req),
                                call_guard: CallGuard::new(guard_ref, permit),
                            });
                        }
                        WaitProgress::Refused(rejected) => {
                            wait.finish();
                            return Poll::Ready(Err(refuse(rejected)));
                        }
                        WaitProgress::Pending(until) => {
                            let timer = timer.as_mut();
                            let wait = |until| poll_until(timer, until, cx);
                            if until.map_or(Poll::Pending, wait).is_pending() {
                                note_wait();
                                return Poll::Pending;
                            }
                        }
                    }
                }

                // Readying => Called
                StateProj::Readying {
                    inner,
                    req,
                    call_guard,
                } => {
                    let mark = RefusalMark::set();
                    match call_guard.poll_ready(|| inner.poll_ready(cx)) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => {
                            if let Some(guard_ref) = call_guard.end_unready() {
                                tell_unready(guard_ref.guard(), mark, &error);
                            }
                            *req = None;
                            return Poll::Ready(Err(error));
                        }
                        Poll::Pending => {
                            note_wait();
                            return Poll::Pending;
                        }
                    }
                    let Some(req) = req.take() else {
                        return after_its_end();
                    };
                    let mut call_guard = P::settling(call_guard.take(), &req);
                    let call = call_guard.start(|| inner.call(req));
                    let call = GuardFuture::running(call, call_guard);
                    state.set(State::Called { call });
                }
            }
        }
    }
}

/// The poll of a future that has ended, which its contract lets it leave pending.
#[cold]
fn after_its_end<T>() -> Poll<T> {
    debug_assert!(false, "a call that waited was polled after its end");
    Poll::Pending
}

/// Polls the one timer of whoever carries the call, made when it is first needed.
pub(crate) fn poll_until(
    mut timer: Pin<&mut Option<Sleep>>,
    until: Time,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let until = until.to_instant();
    match timer.as_mut().as_pin_mut() {
        Some(sleep) if sleep.deadline() == until => {}
        Some(sleep) => sleep.reset(until),
        None => timer.set(Some(sleep_until(until))),
    }
    match timer.as_pin_mut() {
        Some(sleep) => sleep.poll(cx),
        None => Poll::Ready(()),
    }
}

impl<S, Req, F, G: GuardBase, P: StrategyFor<Req>> fmt::Debug for WaitFuture<S, Req, F, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFuture").finish_non_exhaustive()
    }
}
