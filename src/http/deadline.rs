//! Deadlines between processes.

use super::time_left::{time_left, write};
use crate::{
    clock::Time,
    context,
    error::{FromRejected, Kind, Name, Rejected, refuse},
    timeout::{Deadline, DeadlineFuture},
};
use http::Request;
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

/// A layer for servers that keeps to the deadline that a request comes with.
///
/// The time that is left comes from [`DEADLINE_HEADER`](super::DEADLINE_HEADER) or from
/// `grpc-timeout`, whichever is shorter. A header that cannot be read is ignored. The deadline is
/// put into the [context](crate::context) of everything that the service does for the request, and
/// into the request's extensions as a [`Deadline`]. A call that is not over by then is cancelled,
/// and ends with a rejection of [`Kind::DeadlineExceeded`]. A call is over
/// with the head of its response: a body that stalls after that is not cut off.
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::http::{DeadlineHeaderLayer, Http, RespondLayer};
/// use std::time::Duration;
///
/// let deadline = DeadlineHeaderLayer::at_most("orders", Duration::from_secs(10));
/// let app: Router = Router::new()
///     .route("/orders", get(|| async { "[]" }))
///     // Its rejections leave as 504, "Gateway Timeout".
///     .layer(RespondLayer::new(Http, deadline));
/// ```
#[doc(alias = "grpc-timeout")]
#[derive(Clone, Copy, Debug)]
pub struct DeadlineHeaderLayer {
    name: &'static str,
    at_most: Duration,
}

impl DeadlineHeaderLayer {
    /// Creates a layer that gives no call longer than this, even if its request asks for more or
    /// says nothing. [`Duration::MAX`] sets no bound, and leaves the deadline to the callers.
    pub fn at_most(name: impl Into<Name>, at_most: Duration) -> Self {
        let name = name.into().as_str();
        Self { name, at_most }
    }
}

impl<S> Layer<S> for DeadlineHeaderLayer {
    type Service = DeadlineHeaderService<S>;

    fn layer(&self, inner: S) -> DeadlineHeaderService<S> {
        DeadlineHeaderService {
            inner,
            layer: *self,
        }
    }
}

/// A service that keeps to the deadlines that its requests come with, built by
/// [`DeadlineHeaderLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineHeaderService<S /* `buttress::check` says why */> {
    inner: S,
    layer: DeadlineHeaderLayer,
}

impl<S> DeadlineHeaderService<S> {
    inner_accessors!();
}

impl<S, B> Service<Request<B>> for DeadlineHeaderService<S>
where
    S: Service<Request<B>>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let now = Time::now();
        let given = time_left(req.headers());
        let at_most = self.layer.at_most;
        let deadline = match given {
            Some(given) if given < at_most => Deadline::at(now.after(given)).of_caller(),
            _ => Deadline::within_from(at_most, now),
        };
        let deadline = deadline.or_sooner();
        req.extensions_mut().insert(deadline);
        DeadlineFuture::start(self.layer.name, deadline, now, || self.inner.call(req))
    }
}

/// A layer for clients that tells the service how long its caller will wait.
///
/// It writes the time that is left until the [context](crate::context)'s deadline, rounded down,
/// into [`DEADLINE_HEADER`](super::DEADLINE_HEADER) and, for gRPC, into `grpc-timeout`. A shorter
/// time that is there already stays. With less than a millisecond left, the request is not sent,
/// and the call is rejected with [`Kind::DeadlineExceeded`]. Without a deadline nothing changes.
///
/// The layer does not cut calls off: for that, put a
/// [`DeadlineLayer`](crate::timeout::DeadlineLayer) or a [`Timeout`](crate::timeout::Timeout)
/// outside of it. Put it inside a retry, so that every attempt tells what is left by then.
#[doc(alias = "grpc-timeout")]
#[derive(Clone, Copy, Debug)]
pub struct DeadlineHeaderClientLayer {
    name: &'static str,
}

impl DeadlineHeaderClientLayer {
    /// Creates the layer, with the name that its rejections carry.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into().as_str(),
        }
    }
}

impl<S> Layer<S> for DeadlineHeaderClientLayer {
    type Service = DeadlineHeaderClientService<S>;

    fn layer(&self, inner: S) -> DeadlineHeaderClientService<S> {
        DeadlineHeaderClientService {
            inner,
            name: self.name,
        }
    }
}

/// A service whose requests carry the deadline, built by [`DeadlineHeaderClientLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineHeaderClientService<S /* `buttress::check` says why */> {
    inner: S,
    name: &'static str,
}

impl<S> DeadlineHeaderClientService<S> {
    inner_accessors!();
}

impl<S, B> Service<Request<B>> for DeadlineHeaderClientService<S>
where
    S: Service<Request<B>>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineHeaderFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let state = match context::current().deadline {
            Some(deadline) if !write(req.headers_mut(), deadline.since(Time::now())) => {
                State::Refused {
                    rejected: Rejected::new(Kind::DeadlineExceeded, self.name),
                }
            }
            _ => State::Called {
                call: self.inner.call(req),
            },
        };
        DeadlineHeaderFuture { state }
    }
}

pin_project! {
    /// The response future of [`DeadlineHeaderClientService`].
    pub struct DeadlineHeaderFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] call: F },
        Refused { rejected: Rejected },
    }
}

impl<F, T, E> Future for DeadlineHeaderFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { call } => call.poll(cx),
            StateProj::Refused { rejected } => Poll::Ready(Err(refuse(*rejected))),
        }
    }
}

impl<F> fmt::Debug for DeadlineHeaderFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineHeaderFuture")
            .finish_non_exhaustive()
    }
}
