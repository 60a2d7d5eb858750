//! The deadline of a call, over the body of its response.

use super::{LimitedBody, body::poll_call, cell::BodyEnds, cut::LimitOwner, pace::Pace};
use crate::{
    clock::Time,
    error::FromRejected,
    http::respond::BoxError,
    timeout::{Deadline, DeadlineFuture, DeadlineLayer, ReadyWait},
};
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// A tower layer that gives every call of an HTTP or gRPC service a deadline, up to the end of the
/// response's body. Made by [`DeadlineLayer::http`] and `DeadlineLayer::grpc`.
///
/// A body that has not ended by then ends with a [`BodyCut`](super::BodyCut), or with gRPC's
/// trailers: see [`LimitedBody`]. What the body still does until then has the deadline in its
/// [context](crate::context).
///
/// A response with a body that has not ended costs three allocations and a timer. One without a
/// body costs nothing.
#[derive(Clone, Debug)]
pub struct BodyDeadlineLayer {
    layer: DeadlineLayer,
}

impl DeadlineLayer {
    /// Makes this the deadline of an HTTP service: it holds until the body of the response has
    /// ended.
    pub fn http(self) -> BodyDeadlineLayer {
        BodyDeadlineLayer { layer: self }
    }

    /// Makes this the deadline of a gRPC service: it holds until the trailers. A call that misses
    /// it after its head ends with trailers of `DEADLINE_EXCEEDED`.
    #[cfg(feature = "grpc")]
    pub fn grpc(self) -> BodyDeadlineLayer {
        self.http()
    }
}

impl<S> Layer<S> for BodyDeadlineLayer {
    type Service = BodyDeadlineService<S>;

    fn layer(&self, inner: S) -> BodyDeadlineService<S> {
        BodyDeadlineService {
            inner,
            layer: self.clone(),
            ready: ReadyWait::default(),
        }
    }
}

/// A service whose calls have a deadline that holds for their bodies too, built by
/// [`BodyDeadlineLayer`].
///
/// It becomes ready as a [`DeadlineService`](crate::timeout::DeadlineService) does.
///
/// # Clone
/// A clone has the same layer, and becomes ready on its own.
#[derive(Clone, Debug)]
pub struct BodyDeadlineService<S /* `buttress::check` says why */> {
    inner: S,
    layer: BodyDeadlineLayer,
    ready: ReadyWait,
}

impl<S> BodyDeadlineService<S> {
    inner_accessors!();
}

impl<S, Req, B> Service<Req> for BodyDeadlineService<S>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: FromRejected,
    B: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<LimitedBody<B>>;
    type Error = S::Error;
    type Future = BodyDeadlineFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let within = self.layer.layer.limit();
        self.ready.poll(within, cx, |cx| self.inner.poll_ready(cx))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let (layer, now) = (&self.layer.layer, Time::now());
        let deadline = Deadline::within_from(layer.limit(), now);
        let call = |_| self.inner.call(req);
        BodyDeadlineFuture::new(DeadlineFuture::start(
            layer,
            deadline,
            now,
            &mut self.ready,
            call,
        ))
    }
}

pin_project! {
    /// The response future of [`BodyDeadlineService`] and of
    /// [`DeadlineHeaderService`](crate::http::DeadlineHeaderService).
    pub struct BodyDeadlineFuture<F> {
        #[pin]
        call: DeadlineFuture<F>,
    }
}

impl<F> BodyDeadlineFuture<F> {
    pub(in crate::http) fn new(call: DeadlineFuture<F>) -> Self {
        Self { call }
    }
}

impl<F, B, E> Future for BodyDeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Error: Into<BoxError>> + Send + 'static,
    E: FromRejected,
{
    type Output = Result<Response<LimitedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_call(self.project().call, cx, |call: &DeadlineFuture<F>| {
            let limit = call.limit()?;
            let ends = BodyEnds {
                deadline: limit.deadline,
                whole: None,
            };
            let owner = || LimitOwner::Deadline(limit.layer.clone());
            Some((ends, Pace::new(None, None), owner))
        })
    }
}

impl<F> fmt::Debug for BodyDeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyDeadlineFuture").finish_non_exhaustive()
    }
}
