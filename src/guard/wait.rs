//! The one layer, service and future for guards that may wait.
//!
//! Apart from `service.rs` because a waiting call needs the request, and a service of its own to
//! call when the wait is over: `S: Clone`, which a guard that decides at once does not ask for.

use super::{
    Admission, CallGuard, End, Guard, GuardBase, GuardFuture, GuardRef, OnResponse, Settle,
    Strategy, WaitProgress, held::SharedGuard, layer::WaitLayer, service::ready_to_refuse,
};
use crate::{
    clock::{Now, Time},
    error::{FromRejected, refuse},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

impl<S, G: GuardBase, P: Strategy> Layer<S> for WaitLayer<G, P> {
    type Service = WaitService<S, G, P>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        WaitService {
            inner,
            ready: true,
            core: self.core.clone(),
        }
    }
}

/// A service behind a guard that may wait.
pub struct WaitService<S, G, P = OnResponse> {
    inner: S,
    /// False while the inner service is known not to be ready.
    ready: bool,
    core: SharedGuard<G, P>,
}

impl<S: Clone, G, P> Clone for WaitService<S, G, P> {
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
    P: Settle<S::Response, S::Error>,
{
    type Response = P::Response<G>;
    type Error = S::Error;
    type Future = WaitFuture<S, Req, S::Future, G, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A call that waits gets a service of its own, so a ready one is always asked for: whether
        // this call will wait is not known before its request is.
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
        let state = match self.core.guard().admit(&req, &now) {
            Admission::Admitted(permit) => {
                let held = CallGuard::new(self.core.clone(), permit);
                State::Called {
                    call: GuardFuture::admitted(held, self.ready, || self.inner.call(req)),
                }
            }
            Admission::Refused(rejected) => State::Called {
                call: GuardFuture::refused(rejected),
            },
            Admission::Wait(wait) => {
                let turn = Turn::new(self.core.clone(), wait);
                // The ready service stays with the caller that made it ready; this call asks again
                // when its turn has come.
                let inner = self.inner.clone();
                State::Waiting {
                    turn,
                    timer: None,
                    next: Some((inner, req)),
                }
            }
        };
        WaitFuture { state }
    }
}

/// A place in a guard's queue. Dropped, it is left.
pub(super) struct Turn<O: GuardRef>(Option<(O, <O::Guard as GuardBase>::Wait)>);

impl<O: GuardRef> Turn<O> {
    pub(super) fn new(owner: O, wait: <O::Guard as GuardBase>::Wait) -> Self {
        Self(Some((owner, wait)))
    }

    pub(super) fn poll<Req>(
        &mut self,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<<O::Guard as GuardBase>::Permit>
    where
        O::Guard: Guard<Req>,
    {
        match &mut self.0 {
            Some((owner, wait)) => owner.guard().poll_wait(wait, req, cx, now),
            None => WaitProgress::Pending(None),
        }
    }

    /// The wait is over, and not abandoned.
    pub(super) fn finish(&mut self) -> Option<O> {
        self.0.take().map(|(owner, _)| owner)
    }
}

impl<O: GuardRef> Drop for Turn<O> {
    fn drop(&mut self) {
        if let Some((owner, wait)) = self.0.take() {
            owner.guard().abandon(wait, &Now::lazy());
        }
    }
}

pin_project! {
    /// The response of a service behind a guard that may wait.
    pub struct WaitFuture<S, Req, F, G: GuardBase, P> {
        #[pin]
        state: State<S, Req, F, G, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F, G: GuardBase, P> {
        Waiting {
            turn: Turn<SharedGuard<G, P>>,
            #[pin]
            timer: Option<Sleep>,
            next: Option<(S, Req)>,
        },
        Readying { inner: S, req: Option<Req>, held: CallGuard<SharedGuard<G, P>> },
        Called { #[pin] call: GuardFuture<F, G, P> },
    }
}

impl<S, Req, G, P> Future for WaitFuture<S, Req, S::Future, G, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    G: Guard<Req>,
    P: Settle<S::Response, S::Error>,
{
    type Output = Result<P::Response<G>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { call } => return call.poll(cx),

                // Waiting => Readying | refused
                StateProj::Waiting {
                    turn,
                    mut timer,
                    next,
                } => {
                    let Some((_, req)) = next.as_ref() else {
                        return Poll::Pending;
                    };
                    match turn.poll(req, cx, &Now::lazy()) {
                        WaitProgress::Admitted(permit) => {
                            let (Some((inner, req)), Some(owner)) = (next.take(), turn.finish())
                            else {
                                return Poll::Pending;
                            };
                            let held = CallGuard::new(owner, permit);
                            state.set(State::Readying {
                                inner,
                                req: Some(req),
                                held,
                            });
                        }
                        WaitProgress::Refused(rejected) => {
                            turn.finish();
                            return Poll::Ready(Err(refuse(rejected)));
                        }
                        WaitProgress::Pending(None) => return Poll::Pending,
                        WaitProgress::Pending(Some(until)) => {
                            ready!(poll_until(timer.as_mut(), until, cx))
                        }
                    }
                }

                // Readying => Called
                StateProj::Readying { inner, req, held } => {
                    if let Err(error) = ready!(held.during(|_| inner.poll_ready(cx))) {
                        held.end(End::NeverStarted);
                        return Poll::Ready(Err(error));
                    }
                    let Some(req) = req.take() else {
                        return Poll::Pending;
                    };
                    let call = held.start(|| inner.call(req));
                    let call = GuardFuture::running(call, held.take());
                    state.set(State::Called { call });
                }
            }
        }
    }
}

/// Polls the carrier's one timer, made when it is first needed.
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

impl<S, Req, F, G: GuardBase, P> fmt::Debug for WaitFuture<S, Req, F, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFuture").finish_non_exhaustive()
    }
}
