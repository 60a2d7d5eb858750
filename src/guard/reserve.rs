//! The service for policies that hold callers back: backpressure.
//!
//! Apart from the other two because the permit is there before the request is: it is reserved in
//! `poll_ready`, and nothing of the request can have a say in it.

use super::{
    AnyStrategy, CallGuard, End, GuardBase, GuardFuture, GuardRef, OnResponse, Settle, StrategyFor,
    call_guard::SharedGuard, layer::ReserveLayer, service::tell_unready,
};
use crate::{
    clock::Now,
    error::{FromRejected, Kind, RefusalMark, Rejected, limiter},
};
use std::{
    fmt,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// A guard that reserves a permit for a service before there is a request.
///
/// It holds callers back in `poll_ready` instead of refusing their calls, so it cannot tell
/// requests apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not hold callers back in `poll_ready`",
    label = "not a `Reserve`",
    note = "`LoadShed::backpressure` does; other guards decide about a call when it comes: `GuardLayer`, `WaitLayer`"
)]
pub trait Reserve: GuardBase {
    /// Returns a permit, or stores a place in the queue in `wait` and returns `Pending`.
    ///
    /// `wait` is `None` at first. When the task is woken, this is called again with what it left in
    /// `wait`. If the service is dropped first, the place is [abandoned](GuardBase::abandon), or
    /// the permit [settled](GuardBase::settle) as [`End::NeverStarted`].
    fn poll_reserve(
        &self,
        wait: &mut Option<Self::Wait>,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> Poll<Self::Permit>;
}

impl<S, G: GuardBase, P: AnyStrategy> Layer<S> for ReserveLayer<G, P> {
    type Service = ReserveService<S, G, P>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        ReserveService {
            inner,
            reserved: Reserved::new(self.core.clone()),
        }
    }
}

/// A service behind a policy that holds its callers back, built by [`ReserveLayer`].
///
/// It is ready when the inner service is ready and there is a permit for the next call.
///
/// # Clone
/// A clone is behind the same policy, and waits for a permit of its own.
pub struct ReserveService<S, G: GuardBase, P = OnResponse /* `buttress::check` says why */> {
    inner: S,
    reserved: Reserved<SharedGuard<G, P>>,
}

impl<S, G: GuardBase, P> ReserveService<S, G, P> {
    inner_accessors!();
}

impl<S: Clone, G: GuardBase, P> Clone for ReserveService<S, G, P> {
    #[inline]
    fn clone(&self) -> Self {
        // Readiness, and with it the permit, is the clone's own to wait for.
        Self {
            inner: self.inner.clone(),
            reserved: Reserved::new(self.reserved.guard_ref.clone()),
        }
    }
}

impl<S: fmt::Debug, G: GuardBase + fmt::Debug, P> fmt::Debug for ReserveService<S, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReserveService")
            .field("inner", &self.inner)
            .field("guard", self.reserved.guard_ref.guard())
            .finish()
    }
}

impl<S, Req, G, P> Service<Req> for ReserveService<S, G, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    G: Reserve,
    P: StrategyFor<Req>,
    P::Strategy: Settle<S::Response, S::Error>,
{
    type Response = <P::Strategy as Settle<S::Response, S::Error>>::Response<P::Ref<G>>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future, P::Ref<G>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service first: a permit in the hands of someone who cannot use it yet is one
        // that nobody can use.
        let mark = RefusalMark::set();
        let polled = match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.reserved.poll(cx).map(Ok),
            Poll::Ready(Err(error)) => {
                self.reserved.give_back();
                tell_unready(self.reserved.guard_ref.guard(), mark, &error);
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        };
        // The last poll of a caller whose time is up, and who will not come back for its place: a
        // permit that is given to it would lie there.
        if polled.is_pending() && limiter().is_some() {
            self.reserved.give_back();
        }
        polled
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let Some(call_guard) = self.reserved.take() else {
            // A caller that did not ask. The inner service cannot be trusted to be ready either.
            return GuardFuture::refused(Rejected::new(Kind::NotReady, "unready service"));
        };
        let mut call_guard = P::settling(call_guard, &req);
        GuardFuture::running(call_guard.start(|| self.inner.call(req)), call_guard)
    }
}

/// A permit reserved, or a place in the queue for one. Dropped, either is given back.
struct Reserved<R: GuardRef> {
    guard_ref: R,
    wait: Option<<R::Guard as GuardBase>::Wait>,
    permit: Option<<R::Guard as GuardBase>::Permit>,
}

impl<R: GuardRef> Reserved<R> {
    fn new(guard_ref: R) -> Self {
        Self {
            guard_ref,
            wait: None,
            permit: None,
        }
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        R::Guard: Reserve,
    {
        if self.permit.is_none() {
            let now = Now::lazy();
            let permit = ready!(
                self.guard_ref
                    .guard()
                    .poll_reserve(&mut self.wait, cx, &now)
            );
            self.permit = Some(permit);
        }
        Poll::Ready(())
    }

    #[inline]
    fn take(&mut self) -> Option<CallGuard<R>>
    where
        R: Clone,
    {
        let permit = self.permit.take()?;
        Some(CallGuard::new(self.guard_ref.clone(), permit))
    }

    fn give_back(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.guard_ref
                .guard()
                .settle(permit, End::NeverStarted, &Now::lazy());
        }
        if let Some(wait) = self.wait.take() {
            self.guard_ref.guard().abandon(wait, &Now::lazy());
        }
    }
}

impl<R: GuardRef> Drop for Reserved<R> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}
