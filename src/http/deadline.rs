//! Deadlines between processes.

use super::{
    body_limit::{BodyDeadlineFuture, LimitedBody},
    respond::BoxError,
    time_left::{time_left, write},
};
use crate::{
    clock::Time,
    context,
    error::{FromRejected, Name, Rejected, refuse},
    timeout::{Deadline, DeadlineFuture, DeadlineLayer, DeadlineSnapshot, ReadyWait},
};
use http::{Request, Response};
use http_body::Body;
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
/// and ends with a rejection of [`Kind::DeadlineExceeded`](crate::Kind::DeadlineExceeded).
///
/// A call is over with the body of its response. A body that has not ended by the deadline ends
/// with a [`BodyCut`](super::BodyCut) as its error, and the body of a gRPC response with trailers
/// of `DEADLINE_EXCEEDED`; what it held is given back at that moment, also if nobody polls it: see
/// [`LimitedBody`]. Streams that are meant to stay open are served beside this layer, and not
/// within it.
///
/// It serves tonic's clients too, in place of a [`DeadlineLayer`]: what a call of theirs sets by
/// `Request::set_timeout` is a `grpc-timeout`.
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
///
/// # Clone
/// Clones are one policy: they share its counts.
#[derive(Clone, Debug)]
pub struct DeadlineHeaderLayer(DeadlineLayer);

impl DeadlineHeaderLayer {
    /// Creates a layer that gives no call longer than this, even if its request asks for more or
    /// says nothing. [`Duration::MAX`] sets no bound, and leaves the deadline to the callers.
    pub fn at_most(name: impl Into<Name>, at_most: Duration) -> Self {
        Self(DeadlineLayer::within(name, at_most))
    }

    /// Returns the name that rejections by this layer carry.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Returns what the layer has done so far.
    pub fn snapshot(&self) -> DeadlineSnapshot {
        self.0.snapshot()
    }
}

impl<S> Layer<S> for DeadlineHeaderLayer {
    type Service = DeadlineHeaderService<S>;

    fn layer(&self, inner: S) -> DeadlineHeaderService<S> {
        DeadlineHeaderService {
            inner,
            layer: self.0.clone(),
            ready: ReadyWait::default(),
        }
    }
}

/// A service that keeps to the deadlines that its requests come with, built by
/// [`DeadlineHeaderLayer`].
///
/// It is ready when the inner service is. The wait for that counts towards the deadline: when the
/// inner service has not been ready for as long as a call may take, this one says that it is, and
/// the next call is rejected.
///
/// # Clone
/// A clone has the same layer, and becomes ready on its own.
#[derive(Clone, Debug)]
pub struct DeadlineHeaderService<S /* `buttress::check` says why */> {
    inner: S,
    layer: DeadlineLayer,
    ready: ReadyWait,
}

impl<S> DeadlineHeaderService<S> {
    inner_accessors!();
}

impl<S, B, RB> Service<Request<B>> for DeadlineHeaderService<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: FromRejected,
    RB: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<LimitedBody<RB>>;
    type Error = S::Error;
    type Future = BodyDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let at_most = self.layer.limit();
        self.ready.poll(at_most, cx, |cx| self.inner.poll_ready(cx))
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let now = Time::now();
        let given = time_left(req.headers());
        let at_most = self.layer.limit();
        let deadline = match given {
            Some(given) if given < at_most => Deadline::at(now.after(given)).of_caller(),
            _ => Deadline::within_from(at_most, now),
        };
        let call = |deadline: Deadline| {
            req.extensions_mut().insert(deadline);
            self.inner.call(req)
        };
        let ready = &mut self.ready;
        BodyDeadlineFuture::new(DeadlineFuture::start(
            &self.layer,
            deadline,
            now,
            ready,
            call,
        ))
    }
}

/// A layer for clients that tells the service how long its caller will wait.
///
/// It writes the time that is left until the [context](crate::context)'s deadline, rounded down,
/// into [`DEADLINE_HEADER`](super::DEADLINE_HEADER) and, for gRPC, into `grpc-timeout`. A shorter
/// time that is there already stays. With less than a millisecond left, the request is not sent,
/// and the call is rejected with [`Kind::DeadlineExceeded`](crate::Kind::DeadlineExceeded). Without
/// a deadline nothing changes.
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
        let context = context::current();
        let state = match context.deadline {
            Some(deadline) if !write(req.headers_mut(), deadline.since(Time::now())) => {
                State::Refused {
                    rejected: context.deadline_exceeded(self.name),
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
