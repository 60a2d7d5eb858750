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

/// The server's layer that keeps to the deadline that a request came with.
///
/// The time comes from [`DEADLINE_HEADER`](super::DEADLINE_HEADER) (`x-request-timeout-ms`) or from
/// `grpc-timeout`, the shorter if both are there; a header that cannot be read is as good as none. The deadline is in
/// the [context](crate::context) of everything that the service does for the request, and in its
/// extensions as a [`Deadline`]. A call that is not over by then is cancelled and answered with
/// [`Kind::DeadlineExceeded`]. It is over with the head of its response; a body that stalls is
/// not cut off.
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
    /// Gives no call longer than this, whatever its request says, or if it says nothing: how long
    /// a server works for a caller is not the caller's to choose. [`Duration::MAX`] trusts them.
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

/// A service that keeps to the deadlines its requests come with.
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
        let within = given.map_or(self.layer.at_most, |given| given.min(self.layer.at_most));
        let deadline = Deadline::at(now.after(within)).or_sooner();
        req.extensions_mut().insert(deadline);
        DeadlineFuture::start(self.layer.name, deadline, now, || self.inner.call(req))
    }
}

/// The client's layer that tells the service how long its caller will wait.
///
/// What is left of the [context](crate::context)'s deadline is written into
/// [`DEADLINE_HEADER`](super::DEADLINE_HEADER) and, for gRPC, into `grpc-timeout`, rounded down; a
/// shorter time that is there already stays. With less than a millisecond left the request is not
/// sent, and answered with [`Kind::DeadlineExceeded`]. Without a deadline nothing changes.
///
/// It cuts nothing off: put a [`DeadlineLayer`](crate::timeout::DeadlineLayer) or a
/// [`Timeout`](crate::timeout::Timeout) outside, and this one inside a retry, so that every
/// attempt tells what is left by then.
#[doc(alias = "grpc-timeout")]
#[derive(Clone, Copy, Debug)]
pub struct DeadlineHeaderClientLayer {
    name: &'static str,
}

impl DeadlineHeaderClientLayer {
    /// Makes the layer, with the name that its rejections carry.
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

/// A service whose requests carry the deadline.
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
    /// The response of a service whose requests carry the deadline.
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
