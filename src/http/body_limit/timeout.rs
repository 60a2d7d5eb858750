//! The timeout of one attempt, over the body of its response.

use super::{
    AnyUpload, LimitedBody, MinRate, PrepareUpload, UploadLimit, body::poll_call, cell::BodyEnds,
    cut::LimitOwner, pace::Pace,
};
use crate::{
    error::FromRejected,
    http::respond::BoxError,
    timeout::{ReadyWait, RequestLimit, SameLimit, TimeoutFuture, TimeoutLayer},
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

/// A tower layer that limits every call of an HTTP or gRPC service by a
/// [`Timeout`](crate::timeout::Timeout), up to the end of the response's body. Made by
/// [`TimeoutLayer::http`] and `TimeoutLayer::grpc`.
///
/// | limit | over | default |
/// |---|---|---|
/// | the deadline of the [context](crate::context) | the whole call | always holds |
/// | the timeout | up to the head of the response; with [`whole`](Self::whole), and over gRPC, up to its end | the head |
/// | [`idle`](Self::idle) | the time without data of the response's body, while they are waited for | off: only you know for how long a stream may be silent |
/// | [`min_rate`](Self::min_rate) | bytes per second of the response's body | off: only you know how slow your slowest network is |
/// | [`min_upload_rate`](Self::min_upload_rate) | bytes per second of the request's body | off: as above |
///
/// A body that misses a limit ends with a [`BodyCut`](super::BodyCut), or with gRPC's trailers: see
/// [`LimitedBody`]. It is counted by the timeout, as a call that has timed out, or whose deadline
/// came first.
///
/// ```
/// use axum::{Router, body::Body, routing::put};
/// use buttress::{http::{Http, MinRate, RespondLayer}, timeout::Timeout};
/// use std::time::Duration;
///
/// let uploads = Timeout::new("uploads", Duration::from_secs(60))
///     .layer()
///     .http()
///     .whole()
///     .idle(Duration::from_secs(10))
///     .min_upload_rate(MinRate::per_second(1_000))
///     .map_body(Body::new);
/// let app: Router = Router::new()
///     .route("/photos", put(|photo: axum::body::Bytes| async move { photo.len().to_string() }))
///     .layer(RespondLayer::new(Http, uploads));
/// ```
///
/// A response with a body that has not ended costs three allocations, and a timer if there is a
/// deadline or the timeout holds for all of it. A minimum rate costs one allocation more, and so it
/// does for an upload. A response without a body costs nothing.
#[derive(Clone)]
pub struct BodyTimeoutLayer<L = SameLimit, U = AnyUpload> {
    layer: TimeoutLayer<L>,
    limits: ResponseLimits,
    upload: U,
}

/// What is asked of the response's body.
#[derive(Clone, Copy, Debug, Default)]
struct ResponseLimits {
    whole: bool,
    idle: Option<Duration>,
    rate: Option<MinRate>,
}

impl<L> TimeoutLayer<L> {
    /// Makes this the timeout of an HTTP service. The deadline of the [context](crate::context)
    /// holds until the body of the response has ended, and there are limits for bodies to set: see
    /// [`BodyTimeoutLayer`].
    pub fn http(self) -> BodyTimeoutLayer<L> {
        BodyTimeoutLayer {
            layer: self,
            limits: ResponseLimits::default(),
            upload: AnyUpload,
        }
    }

    /// Makes this the timeout of a gRPC service: a call is over with its trailers, and so long does
    /// the timeout hold.
    ///
    /// Streams that are meant to stay open have a timeout of their own, or none but for their
    /// [`idle`](BodyTimeoutLayer::idle) times: `.http().idle(..)`. See [`BodyTimeoutLayer`].
    #[cfg(feature = "grpc")]
    pub fn grpc(self) -> BodyTimeoutLayer<L> {
        self.http().whole()
    }
}

impl<L, U> BodyTimeoutLayer<L, U> {
    /// Makes the timeout hold until the body of the response has ended, as it does over gRPC.
    ///
    /// Off by default over HTTP: a download may well take longer than its head.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.limits.whole = true;
        self
    }

    /// Sets for how long a body may be silent while it is waited for. Off by default.
    ///
    /// Only data count as a sign of life. With [`Duration::MAX`] it never fires, and with zero it
    /// cuts off whatever is not there at once.
    #[must_use]
    pub fn idle(mut self, longest: Duration) -> Self {
        self.limits.idle = Some(longest);
        self
    }

    /// Sets the least bytes per second of the response's body: of a download. Off by default.
    #[must_use]
    pub fn min_rate(mut self, rate: MinRate) -> Self {
        self.limits.rate = Some(rate);
        self
    }
}

impl<L> BodyTimeoutLayer<L> {
    /// Sets the least bytes per second of the request's body: of an upload. Off by default.
    ///
    /// The inner service is called with a `Request<UploadBody<B>>`. For a service that takes one
    /// particular body use [`map_body`](BodyTimeoutLayer::map_body) as well.
    #[must_use]
    pub fn min_upload_rate(self, rate: MinRate) -> BodyTimeoutLayer<L, UploadLimit> {
        BodyTimeoutLayer {
            layer: self.layer,
            limits: self.limits,
            upload: UploadLimit::new(rate),
        }
    }
}

impl<L, M> BodyTimeoutLayer<L, UploadLimit<M>> {
    /// Sets the function that makes the inner service's request body from the
    /// [`UploadBody`](super::UploadBody), such as `axum::body::Body::new`, `tonic::body::Body::new`
    /// or `reqwest::Body::wrap`.
    pub fn map_body<F>(self, map: F) -> BodyTimeoutLayer<L, UploadLimit<F>> {
        BodyTimeoutLayer {
            layer: self.layer,
            limits: self.limits,
            upload: self.upload.map_body(map),
        }
    }
}

impl<L, U> fmt::Debug for BodyTimeoutLayer<L, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimeoutLayer")
            .field("timeout", &self.layer.timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<S, L: Clone, U: Clone> Layer<S> for BodyTimeoutLayer<L, U> {
    type Service = BodyTimeoutService<S, L, U>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyTimeoutService {
            inner,
            layer: self.clone(),
            ready: ReadyWait::default(),
        }
    }
}

/// A service whose calls have a timeout that may hold for their bodies, built by
/// [`BodyTimeoutLayer`].
///
/// It becomes ready as a [`TimeoutService`](crate::timeout::TimeoutService) does.
///
/// # Clone
/// A clone has the same timeout, shares its counts, and becomes ready on its own.
#[derive(Clone, Debug)]
pub struct BodyTimeoutService<S, L = SameLimit, U = AnyUpload /* `buttress::check` says why */> {
    inner: S,
    layer: BodyTimeoutLayer<L, U>,
    ready: ReadyWait,
}

impl<S, L, U> BodyTimeoutService<S, L, U> {
    inner_accessors!();
}

impl<S, B, RB, L, U> Service<Request<B>> for BodyTimeoutService<S, L, U>
where
    S: Service<Request<U::Body>, Response = Response<RB>>,
    S::Error: FromRejected,
    RB: Body<Error: Into<BoxError>> + Send + 'static,
    L: RequestLimit<Request<B>>,
    U: PrepareUpload<B>,
{
    type Response = Response<LimitedBody<RB>>;
    type Error = S::Error;
    type Future = BodyTimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let longest = self.layer.layer.timeout.limit();
        self.ready.poll(longest, cx, |cx| self.inner.poll_ready(cx))
    }

    #[inline]
    fn call(&mut self, req: Request<B>) -> Self::Future {
        let BodyTimeoutLayer {
            layer: TimeoutLayer { timeout, limit },
            limits,
            upload,
        } = &self.layer;
        let call = TimeoutFuture::start(timeout, limit.limit(&req), &mut self.ready, || {
            self.inner
                .call(req.map(|body| upload.prepare(body, timeout)))
        });
        BodyTimeoutFuture {
            call,
            limits: *limits,
        }
    }
}

pin_project! {
    /// The response future of [`BodyTimeoutService`].
    pub struct BodyTimeoutFuture<F> {
        #[pin]
        call: TimeoutFuture<F>,
        limits: ResponseLimits,
    }
}

impl<F, B, E> Future for BodyTimeoutFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Error: Into<BoxError>> + Send + 'static,
    E: FromRejected,
{
    type Output = Result<Response<LimitedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let limits = *this.limits;
        poll_call(this.call, cx, |call: &TimeoutFuture<F>| {
            let (attempt, until) = call.limit()?;
            let ends = BodyEnds {
                deadline: attempt.deadline,
                whole: limits.whole.then(|| (until, attempt.length())),
            };
            let owner = || LimitOwner::Timeout(attempt.timeout.clone());
            Some((ends, Pace::new(limits.idle, limits.rate), owner))
        })
    }
}

impl<F> fmt::Debug for BodyTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimeoutFuture").finish_non_exhaustive()
    }
}
