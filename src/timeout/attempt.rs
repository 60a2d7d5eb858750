//! The timeout of one attempt, around a service's calls.

use super::{
    Deadline, RequestLimit, SameLimit, Timeout,
    limited::{LimitedCall, TimeLimit},
    readiness::ReadyWait,
};
use crate::{
    clock::{Time, nanos},
    context::Limiter,
    error::{FromRejected, Rejected},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// A tower layer that limits every call of a service by a [`Timeout`], made by [`Timeout::layer`].
///
/// Every call has the timeout's limit, unless [`limit_by`](Self::limit_by) says otherwise.
#[derive(Clone)]
pub struct TimeoutLayer<L = SameLimit> {
    pub(crate) timeout: Timeout,
    pub(crate) limit: L,
}

impl TimeoutLayer {
    pub(super) fn new(timeout: Timeout) -> Self {
        let limit = SameLimit;
        Self { timeout, limit }
    }

    /// Takes the limit of each call from its request: from a header, by its route, by whatever this
    /// function looks at.
    ///
    /// The limit of the timeout itself is then the longest, and the deadline of the
    /// [context](crate::context) holds in any case. A function that returns [`Duration::MAX`]
    /// leaves a request the longest.
    ///
    /// ```
    /// use buttress::{Error, timeout::Timeout};
    /// use http::{Request, Response};
    /// use std::{io, time::Duration};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // Reports take long, and whoever is in a hurry says so.
    /// let by_route_and_header = |request: &Request<String>| {
    ///     let hurry = request.headers().get("x-hurry-ms");
    ///     let hurry = hurry.and_then(|ms| ms.to_str().ok()?.parse().ok());
    ///     match (hurry, request.uri().path()) {
    ///         (Some(ms), _) => Duration::from_millis(ms),
    ///         (None, "/reports") => Duration::MAX, // the 30 s below
    ///         (None, _) => Duration::from_secs(1),
    ///     }
    /// };
    /// let timeout = Timeout::new("orders", Duration::from_secs(30));
    /// let orders = ServiceBuilder::new()
    ///     .layer(timeout.layer().limit_by(by_route_and_header))
    ///     .service(service_fn(async |request: Request<String>| {
    ///         Ok::<_, Error<io::Error>>(Response::new(request.into_body()))
    ///     }));
    /// match orders.oneshot(Request::new("two apples".to_owned())).await {
    ///     Ok(response) => println!("{}", response.body()),
    ///     Err(Error::Rejected(rejected)) => println!("given up: {rejected}"),
    ///     Err(Error::Service(error)) => println!("failed: {error}"),
    /// }
    /// # }
    /// ```
    pub fn limit_by<F>(self, limit: F) -> TimeoutLayer<F> {
        let timeout = self.timeout;
        TimeoutLayer { timeout, limit }
    }
}

impl<L> fmt::Debug for TimeoutLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimeoutLayer").field(&self.timeout).finish()
    }
}

impl<S, L: Clone> Layer<S> for TimeoutLayer<L> {
    type Service = TimeoutService<S, L>;

    #[inline]
    fn layer(&self, inner: S) -> TimeoutService<S, L> {
        TimeoutService {
            inner,
            layer: self.clone(),
            ready: ReadyWait::default(),
        }
    }
}

/// A service whose calls have a timeout, built by [`TimeoutLayer`].
///
/// It is ready when the inner service is. The wait for that is part of the attempt: when the inner
/// service has not been ready for as long as the timeout, or until the deadline of the
/// [context](crate::context), this one says that it is, and the next call is rejected.
///
/// # Clone
/// A clone has the same timeout, shares its counts, and becomes ready on its own.
#[derive(Clone)]
pub struct TimeoutService<S, L = SameLimit /* `buttress::check` says why */> {
    inner: S,
    layer: TimeoutLayer<L>,
    ready: ReadyWait,
}

impl<S, L> TimeoutService<S, L> {
    inner_accessors!();
}

impl<S: fmt::Debug, L> fmt::Debug for TimeoutService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutService")
            .field("inner", &self.inner)
            .field("timeout", &self.layer.timeout)
            .finish()
    }
}

impl<S, Req, L> Service<Req> for TimeoutService<S, L>
where
    S: Service<Req>,
    S::Error: FromRejected,
    L: RequestLimit<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let longest = self.layer.timeout.limit();
        self.ready.poll(longest, cx, |cx| self.inner.poll_ready(cx))
    }

    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        let limit = self.layer.limit.limit(&req);
        TimeoutFuture::start(&self.layer.timeout, limit, &mut self.ready, || {
            self.inner.call(req)
        })
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
pub(crate) struct AttemptLimit {
    pub(crate) timeout: Timeout,
    /// How long the attempt may take, in nanoseconds. At most the timeout's own limit: less if the
    /// request says so, or if the service was waited for.
    limit: u64,
    /// Of the context in which the call was made: its future may be polled in another. At the end
    /// of time, if there is none.
    pub(crate) deadline: Deadline,
}

impl AttemptLimit {
    /// Returns how long the attempt may take.
    #[cfg(feature = "http")]
    pub(crate) fn length(&self) -> Duration {
        Duration::from_nanos(self.limit)
    }
}

/// Returns how much of the limit a wait for the service has left, in nanoseconds; or the word of
/// the rejection of an attempt for which it has left nothing.
#[cold]
#[inline(never)]
fn left_after(timeout: &Timeout, limit: u64, ready: &mut ReadyWait) -> Result<u64, u64> {
    let waited = match ready.take() {
        Ok(waited) => nanos(waited),
        Err(late) => return Err(timeout.not_ready_by(late).into_parts().1),
    };
    match limit.saturating_sub(waited) {
        // A limit of zero is for calls that end at their first poll.
        0 if limit > 0 => Err(timeout.not_ready().into_parts().1),
        left => Ok(left),
    }
}

impl<F> TimeoutFuture<F> {
    /// Makes the call, unless the wait for its service has used up the time.
    // Always: the future is large, and would be copied.
    #[inline(always)]
    pub(crate) fn start(
        timeout: &Timeout,
        limit: Duration,
        ready: &mut ReadyWait,
        call: impl FnOnce() -> F,
    ) -> Self {
        let limit = timeout.limit_nanos().min(nanos(limit));
        let limit = match ready.is_none() {
            true => Ok(limit),
            false => left_after(timeout, limit, ready),
        };
        match limit {
            Ok(limit) => Self::begin(timeout, limit, call),
            Err(word) => Self::over(timeout, word),
        }
    }

    /// Makes a call that no service was waited for.
    #[inline(always)]
    pub(super) fn start_now(timeout: &Timeout, limit: Duration, call: impl FnOnce() -> F) -> Self {
        let limit = timeout.limit_nanos().min(nanos(limit));
        Self::begin(timeout, limit, call)
    }

    /// Makes the call, unless no time is left for it.
    #[inline(always)]
    fn begin(timeout: &Timeout, limit: u64, call: impl FnOnce() -> F) -> Self {
        let deadline = Deadline::current();
        if let Some(deadline) = deadline
            && deadline.time() <= Time::now()
        {
            return Self::over(timeout, timeout.too_late(deadline).into_parts().1);
        }
        let limit = AttemptLimit {
            timeout: timeout.clone(),
            limit,
            deadline: deadline.unwrap_or(Deadline::NEVER),
        };
        Self {
            call: LimitedCall::start_within(limit, call),
        }
    }

    // Takes a word: a whole rejection would be written into the future by whoever makes it, and the
    // future copied for that.
    #[inline(always)]
    fn over(timeout: &Timeout, word: u64) -> Self {
        Self {
            call: LimitedCall::over(Rejected::from_parts(timeout.name(), word)),
        }
    }

    /// Returns the limit of a call that has been answered, and when that ends.
    #[cfg(feature = "http")]
    pub(crate) fn limit(&self) -> Option<(&AttemptLimit, Time)> {
        let (limit, until) = self.call.limit()?;
        let until = until.unwrap_or_else(|| limit.until(Time::now()));
        Some((limit, until))
    }
}

impl TimeLimit for AttemptLimit {
    #[inline]
    fn until(&self, now: Time) -> Time {
        now.after(Duration::from_nanos(self.limit))
            .min(self.deadline.time())
    }

    fn limiter(&self, until: Time) -> Limiter {
        match self.deadline.time() <= until {
            true => self.deadline.limiter(),
            false => Limiter::operator(Duration::from_nanos(self.limit)),
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
