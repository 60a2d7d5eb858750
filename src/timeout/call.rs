//! The layer that gives calls a deadline.

use super::{
    Deadline,
    limited::{LimitedCall, TimeLimit},
    readiness::{Late, ReadyWait},
};
use crate::{
    clock::Time,
    context::{Entered, Limiter},
    error::{FromRejected, Name, Rejected},
    shared::Shared,
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// A tower layer that gives every call a deadline, for itself and for all that it causes.
///
/// A call that is not over by its deadline is cancelled (its future is dropped), and ends with a
/// rejection of [`DeadlineExceeded`](crate::Kind::DeadlineExceeded). A call whose caller's deadline
/// has passed already is not started. Put the layer outside a retry: then the attempts and the
/// waits between them share one deadline, and the retry does not wait for an attempt that could not
/// start in time. A call that answers with an `http::Response` is over with its head, unless the
/// layer has been told of HTTP or gRPC, by `.http()` or `.grpc()`.
///
/// The layer is a handle on its counts, as other policies are: it has a
/// [`snapshot`](Self::snapshot), and can be listed in a registry.
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
///
/// # Clone
/// Clones are one policy: they share its counts.
#[derive(Clone, Debug)]
#[doc(alias = "total_timeout")]
pub struct DeadlineLayer(Shared<Core>);

#[derive(Debug)]
struct Core {
    name: &'static str,
    within: Duration,
    exceeded: AtomicU64,
}

impl DeadlineLayer {
    /// Creates a layer whose calls have a deadline this long after they were made, or that of the
    /// [context](crate::context) if it comes sooner.
    ///
    /// With [`Duration::MAX`], only the deadline of the context counts.
    pub fn within(name: impl Into<Name>, within: Duration) -> Self {
        Self(Shared::new(Core {
            name: name.into().as_str(),
            within,
            exceeded: AtomicU64::new(0),
        }))
    }

    /// Returns the name that rejections by this layer carry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns what the layer has done so far.
    pub fn snapshot(&self) -> DeadlineSnapshot {
        DeadlineSnapshot {
            name: self.0.name,
            within: self.0.within,
            exceeded_total: self.0.exceeded.load(Relaxed),
        }
    }

    /// Returns how long calls may take.
    pub(crate) fn limit(&self) -> Duration {
        self.0.within
    }

    /// Counts and returns the rejection of a call that missed this deadline.
    #[cold]
    pub(crate) fn exceeded(&self, deadline: Deadline) -> Rejected {
        self.0.exceeded.fetch_add(1, Relaxed);
        deadline.exceeded(self.0.name)
    }
}

/// What a [`DeadlineLayer`], or an `http::DeadlineHeaderLayer`, has done so far.
///
/// [`DeadlineLayer::snapshot`] takes it. With the `registry` feature it can be serialised, and the
/// metrics in the [module's table](super#metrics) are made from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DeadlineSnapshot {
    /// The name of the layer.
    pub name: &'static str,
    /// How long a call may take, if no deadline comes sooner.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub within: Duration,
    /// Calls that were not over by their deadline, or not started because it had passed, since the
    /// layer was made.
    pub exceeded_total: u64,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    #[inline]
    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService {
            inner,
            layer: self.clone(),
            ready: ReadyWait::default(),
        }
    }
}

/// A service whose calls have a deadline, built by [`DeadlineLayer`].
///
/// It is ready when the inner service is. The wait for that counts towards the deadline: when the
/// inner service has not been ready for as long as a call may take, or until the deadline of the
/// [context](crate::context), this one says that it is, and the next call is rejected.
///
/// # Clone
/// A clone has the same layer, and becomes ready on its own.
#[derive(Clone, Debug)]
pub struct DeadlineService<S /* `buttress::check` says why */> {
    inner: S,
    layer: DeadlineLayer,
    ready: ReadyWait,
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
        let within = self.layer.limit();
        self.ready.poll(within, cx, |cx| self.inner.poll_ready(cx))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let now = Time::now();
        let deadline = Deadline::within_from(self.layer.limit(), now);
        DeadlineFuture::start(&self.layer, deadline, now, &mut self.ready, |_| {
            self.inner.call(req)
        })
    }
}

pin_project! {
    /// The response future of [`DeadlineService`].
    pub struct DeadlineFuture<F> {
        #[pin]
        call: LimitedCall<Entered<F, Deadline>, CallLimit>,
    }
}

/// The deadline of a call, and of all that it causes.
pub(crate) struct CallLimit {
    pub(crate) deadline: Deadline,
    pub(crate) layer: DeadlineLayer,
}

impl<F> DeadlineFuture<F> {
    /// Makes the call under the deadline, or the context's if that is sooner, unless it has passed.
    /// The wait for the service counts: the deadline is that much sooner.
    #[inline(always)]
    pub(crate) fn start(
        layer: &DeadlineLayer,
        deadline: Deadline,
        now: Time,
        ready: &mut ReadyWait,
        call: impl FnOnce(Deadline) -> F,
    ) -> Self {
        let limit = match ready.take() {
            Ok(waited) => {
                let deadline = deadline.sooner_by(waited).or_sooner();
                match deadline.time() <= now {
                    true => Err(layer.exceeded(deadline)),
                    false => Ok(CallLimit {
                        deadline,
                        layer: layer.clone(),
                    }),
                }
            }
            Err(Late::Deadline(deadline)) => Err(layer.exceeded(deadline)),
            Err(Late::Limit) => Err(layer.exceeded(Deadline::within_from(layer.limit(), now))),
        };
        let deadline = match &limit {
            Ok(limit) => limit.deadline,
            Err(_) => deadline,
        };
        Self {
            call: LimitedCall::start(limit, || {
                Entered::new(deadline.enter(|| call(deadline)), deadline)
            }),
        }
    }

    /// Returns the limit of a call that has been answered.
    #[cfg(feature = "http")]
    pub(crate) fn limit(&self) -> Option<&CallLimit> {
        self.call.limit().map(|(limit, _)| limit)
    }
}

impl TimeLimit for CallLimit {
    #[inline]
    fn until(&self, _: Time) -> Time {
        self.deadline.time()
    }

    fn limiter(&self, _: Time) -> Limiter {
        self.deadline.limiter()
    }

    fn expired(&self, _: Time) -> Rejected {
        self.layer.exceeded(self.deadline)
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
