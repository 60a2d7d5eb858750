//! The layer that gives calls a deadline.

use super::{
    Deadline,
    limited::{LimitedCall, TimeLimit},
};
use crate::{
    clock::Time,
    context::Limiter,
    error::{FromRejected, Name, Rejected},
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

/// A tower layer that gives every call a deadline, for itself and for all that it causes.
///
/// A call that is not over by its deadline is cancelled (its future is dropped), and ends with a
/// rejection of [`DeadlineExceeded`](crate::Kind::DeadlineExceeded). A call whose caller's deadline has
/// passed already is not started. Put the layer outside a retry: then the attempts and the waits
/// between them share one deadline, and the retry does not wait for an attempt that could not start
/// in time. A call that answers with an `http::Response` is over with its head.
///
/// ```
/// use buttress::{Error, Kind, timeout::{Deadline, DeadlineLayer}};
/// use std::{io, time::Duration};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = DeadlineLayer::within("checkout", Duration::from_secs(2));
/// let checkout = layer.layer(service_fn(async |item: u32| {
///     assert!(Deadline::current().is_some(), "what is called from here keeps to it, too");
///     Ok::<_, Error<io::Error>>(item)
/// }));
/// match checkout.oneshot(7).await {
///     Ok(item) => println!("sold {item}"),
///     Err(Error::Rejected(r)) if r.kind() == Kind::DeadlineExceeded => println!("{r}"),
///     Err(other) => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[doc(alias = "total_timeout")]
pub struct DeadlineLayer {
    name: &'static str,
    within: Duration,
}

impl DeadlineLayer {
    /// Creates a layer whose calls have a deadline this long after they were made, or that of the
    /// [context](crate::context) if it comes sooner.
    ///
    /// With [`Duration::MAX`], only the deadline of the context counts.
    pub fn within(name: impl Into<Name>, within: Duration) -> Self {
        let name = name.into().as_str();
        Self { name, within }
    }

    /// Returns the name that rejections by this layer carry.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    #[inline]
    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService {
            inner,
            layer: *self,
        }
    }
}

/// A service whose calls have a deadline, built by [`DeadlineLayer`].
///
/// It is ready when the inner service is. The wait for that does not count towards the deadline.
#[derive(Clone, Debug)]
pub struct DeadlineService<S /* `buttress::check` says why */> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S> DeadlineService<S> {
    inner_accessors!();
}

impl<S, Req> Service<Req> for DeadlineService<S>
where
    S: Service<Req>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let DeadlineLayer { name, within } = self.layer;
        let now = Time::now();
        let deadline = Deadline::within_from(within, now);
        DeadlineFuture::start(name, deadline, now, || self.inner.call(req))
    }
}

pin_project! {
    /// The response future of [`DeadlineService`].
    pub struct DeadlineFuture<F> {
        #[pin]
        call: LimitedCall<F, CallLimit>,
    }
}

/// The deadline of a call, and of all that it causes.
struct CallLimit {
    deadline: Deadline,
    name: &'static str,
}

impl<F> DeadlineFuture<F> {
    /// Makes the call under the deadline, or the context's if that is sooner, unless it has passed.
    #[inline(always)]
    pub(crate) fn start(
        name: &'static str,
        deadline: Deadline,
        now: Time,
        call: impl FnOnce() -> F,
    ) -> Self {
        let deadline = deadline.or_sooner();
        let limit = match deadline.time() <= now {
            true => Err(deadline.exceeded(name)),
            false => Ok(CallLimit { deadline, name }),
        };
        Self {
            call: LimitedCall::start(limit, call),
        }
    }
}

impl TimeLimit for CallLimit {
    #[inline]
    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.deadline.enter(f)
    }

    #[inline]
    fn until(&self, _: Time) -> Time {
        self.deadline.time()
    }

    fn limiter(&self, _: Time) -> Limiter {
        self.deadline.limiter()
    }

    fn expired(&self, _: Time) -> Rejected {
        self.deadline.exceeded(self.name)
    }
}

impl<F, T, E> Future for DeadlineFuture<F>
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

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").finish_non_exhaustive()
    }
}
