//! A breaker whose service is not ready while it is open, so that a balancer picks another one.

use super::CircuitBreaker;
use crate::{
    clock::{Now, Time},
    guard::{AnyStrategy, GuardLayer, GuardRef, GuardService},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// How long to wait at most before looking again at an open breaker: somebody may have reset it.
const OPEN: Duration = Duration::from_secs(1);
/// How long to wait before looking again at one whose probes are running: they may have ended.
const PROBING: Duration = Duration::from_millis(10);

impl<P: AnyStrategy> GuardLayer<CircuitBreaker, P> {
    /// Makes the service not ready while the breaker is open, in place of refusing its calls.
    ///
    /// For the endpoints of a balancer that picks among those that are ready, such as
    /// `tower::balance::p2c`. An open breaker answers faster than any service, so to a balancer
    /// that goes by load it looks like the best endpoint, and draws the calls. Not ready, it is
    /// passed over until it is half-open; then it is ready while there are probes to give out.
    ///
    /// ```
    /// use buttress::{CircuitBreaker, Error};
    /// use tower::{ServiceBuilder, balance::p2c::Balance, discover::ServiceList};
    /// use tower::{load::{CompleteOnResponse, PendingRequests}, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let endpoint = |name: &'static str| {
    ///     let service = ServiceBuilder::new()
    ///         .layer(CircuitBreaker::new(name).layer().http().unready_when_open())
    ///         .map_err(Error::Service)
    ///         .service(service_fn(async |_: http::Request<String>| {
    ///             Ok::<_, std::io::Error>(http::Response::new(String::new()))
    ///         }));
    ///     PendingRequests::new(service, CompleteOnResponse::default())
    /// };
    /// let endpoints = ServiceList::new(["a", "b"].map(endpoint));
    /// let balance = Balance::<_, http::Request<String>>::new(endpoints);
    /// # }
    /// ```
    ///
    /// The service looks again at the half-open time, and at least once a second, since somebody
    /// may have reset the breaker. While **all** endpoints are open nobody is refused: a caller
    /// waits in the balancer's `poll_ready` for the first that is half-open, which is for up to
    /// [`max_open_for`](super::CircuitBreakerBuilder::max_open_for) and its jitter, or for as long
    /// as a breaker is [forced](CircuitBreaker::force_open) open. So bound the whole: with tower's
    /// `buffer` around the balancer, the wait is a part of the call, and a
    /// [`Timeout`](crate::Timeout) or a deadline outside of the buffer ends it. Services that are
    /// called without a balancer should refuse, not wait: for them, leave this out.
    ///
    /// A call may still be refused: if the breaker opens between `poll_ready` and `call`, if
    /// another clone was faster to take the last probe, and during a
    /// [ramp](super::CircuitBreakerBuilder::ramp). A breaker that only observes is ready.
    pub fn unready_when_open(self) -> UnreadyWhenOpenLayer<P> {
        UnreadyWhenOpenLayer { layer: self }
    }
}

/// A layer whose services are not ready while their breaker is open, made by
/// [`GuardLayer::unready_when_open`].
pub struct UnreadyWhenOpenLayer<P> {
    layer: GuardLayer<CircuitBreaker, P>,
}

impl<S, P: AnyStrategy> Layer<S> for UnreadyWhenOpenLayer<P> {
    type Service = UnreadyWhenOpenService<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        UnreadyWhenOpenService {
            inner: self.layer.layer(inner),
            breaker: self.layer.core.guard().clone(),
            timer: None,
        }
    }
}

impl<P> Clone for UnreadyWhenOpenLayer<P> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
        }
    }
}

impl<P> fmt::Debug for UnreadyWhenOpenLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnreadyWhenOpenLayer")
            .field(&self.layer)
            .finish()
    }
}

/// A service that is not ready while its breaker is open, built by [`UnreadyWhenOpenLayer`].
///
/// # Clone
/// A clone is behind the same breaker, and becomes ready on its own.
pub struct UnreadyWhenOpenService<S, P> {
    inner: GuardService<S, CircuitBreaker, P>,
    breaker: CircuitBreaker,
    /// When to look again, if it was open at the last look.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S, P> UnreadyWhenOpenService<S, P> {
    /// Gets a reference to the underlying service.
    pub const fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }

    /// Gets a mutable reference to the underlying service.
    ///
    /// What the layer above it knows of its readiness stays as it was.
    pub const fn get_mut(&mut self) -> &mut S {
        self.inner.get_mut()
    }

    /// Consumes `self`, returning the underlying service.
    pub fn into_inner(self) -> S {
        self.inner.into_inner()
    }

    /// Waits until the breaker would let a call in.
    fn poll_not_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(again) = self.breaker.look_again(&Now::lazy()) {
            let timer = || Box::pin(sleep_until(again.to_instant()));
            ready!(self.timer.get_or_insert_with(timer).as_mut().poll(cx));
            self.timer = None;
        }
        self.timer = None;
        Poll::Ready(())
    }
}

impl<S: Clone, P> Clone for UnreadyWhenOpenService<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            breaker: self.breaker.clone(),
            timer: None,
        }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for UnreadyWhenOpenService<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnreadyWhenOpenService")
            .field(&self.inner)
            .finish()
    }
}

impl<S, Req, P> Service<Req> for UnreadyWhenOpenService<S, P>
where
    GuardService<S, CircuitBreaker, P>: Service<Req>,
{
    type Response = <GuardService<S, CircuitBreaker, P> as Service<Req>>::Response;
    type Error = <GuardService<S, CircuitBreaker, P> as Service<Req>>::Error;
    type Future = <GuardService<S, CircuitBreaker, P> as Service<Req>>::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_not_open(cx));
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        self.inner.call(req)
    }
}

impl CircuitBreaker {
    /// Returns when to look again whether a call would be let in. `None` if one would be now.
    fn look_again(&self, now: &Now) -> Option<Time> {
        let refused = self.0.circuit.refused_until(now)?;
        let at_most = match refused {
            Some(until) => until.min(now.get().after(OPEN)),
            None => now.get().after(PROBING),
        };
        Some(at_most)
    }
}
