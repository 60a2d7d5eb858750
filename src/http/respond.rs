//! The one edge at which rejections become answers.

use super::watch::watch;
use crate::{
    context,
    error::{Error, Rejected},
    request_state::WatchedRequest,
};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

pub(super) type BoxError = Box<dyn error::Error + Send + Sync>;

/// A responder, which turns rejections into responses.
///
/// [`Http`](super::Http) and, with the `grpc` feature, `grpc::Grpc` are responders. So is every
/// closure `Fn(Rejected) -> http::Response<_>`, whatever body its responses have. A responder whose
/// answers depend on the request implements [`RespondTo`] instead.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not turn rejections into responses",
    note = "responders are `Http`, `Grpc` and closures `|rejected: Rejected| -> http::Response<Body> {{ ... }}`",
    note = "bodies are `http_body::Body<Data = Bytes>` with an error that is `Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait Respond {
    /// The body of the responder's own answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError>>;

    /// Returns the response to a call that was rejected.
    fn respond(&self, rejected: Rejected) -> Response<Self::Body>;
}

impl<O, F> Respond for F
where
    F: Fn(Rejected) -> Response<O>,
    O: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Body = O;

    fn respond(&self, rejected: Rejected) -> Response<O> {
        self(rejected)
    }
}

/// A responder that may look at each request before the stack takes it.
///
/// Every [`Respond`] implements it, and looks at nothing. [`WithHead`](super::WithHead) and
/// [`PerRequest`](super::PerRequest) make responders of closures that want to see the request;
/// `grpc::Auto` chooses the protocol by it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not turn rejections of `{Req}` into responses",
    note = "responders are `Http`, `Grpc`, `Auto` and closures `|rejected: Rejected| -> http::Response<Body> {{ ... }}`",
    note = "a closure that sees the request is `WithHead(|rejected: Rejected, head: &http::Request<()>| ...)`, or `PerRequest(|request: &{Req}| ...)`, which returns a responder",
    note = "bodies are `http_body::Body<Data = Bytes>` with an error that is `Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait RespondTo<Req> {
    /// The responder for one request, which holds what it has to know of it.
    type Responder: Respond;

    /// Returns the responder for this request.
    ///
    /// Called for every request, before it is known whether it will be rejected, so it should be
    /// cheap.
    fn respond_to(&self, req: &Req) -> Self::Responder;
}

impl<Req, R: Respond + Clone> RespondTo<Req> for R {
    type Responder = R;

    #[inline]
    fn respond_to(&self, _: &Req) -> R {
        self.clone()
    }
}

/// A layer around a stack of layers, which turns the stack's rejections into responses.
///
/// Inside, the service's error is [`Error<E>`](Error), which can hold a rejection by any layer of
/// this crate. Outside, it is the service's own `E` again. So an `Infallible` service, such as an
/// axum `Router` or a tonic server, stays infallible, and errors of other services pass unchanged.
/// A success costs one comparison, and an allocation if a [body is watched](super#trade-offs).
///
/// The response's body is a [`RespondBody`]: either the service's own or the responder's, so
/// neither has to be converted into the other. A layer in the stack may change the body's type, as
/// tower-http's `TraceLayer` and `CompressionLayer` do.
///
/// The stack is any tower `Layer`. A tuple of layers is one, too. As with `ServiceBuilder`, the
/// first layer of a tuple is the outermost:
///
/// ```
/// # #[cfg(all(feature = "load-shed", feature = "rate-limit"))] {
/// # use std::time::Duration;
/// use axum::{Router, routing::get};
/// use buttress::{LoadShed, RateLimiter};
/// use buttress::http::{Http, RespondLayer};
///
/// let limiter = RateLimiter::builder("orders", 100, Duration::from_secs(60)).build()?;
/// let shed = LoadShed::new("orders");
/// let stack = (limiter.layer(), shed.layer().http());
/// let app: Router = Router::new()
///     .route("/", get(|| async { "in" }))
///     .layer(RespondLayer::new(Http, stack));
/// # }
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
///
/// Each layer of it decides on its own: what the limiter above let in has used its quota, also if
/// the load shed then refuses it. Guards that are to decide together are a tuple of guards in one
/// layer, `GuardLayer::new((limiter, shed)).http()`: there the quota is given back.
///
/// For responses of your own, use a closure, which may start from a ready-made response:
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use buttress::{Kind, Rejected, http::{Http, RespondLayer}};
///
/// let responder = |rejected: Rejected| -> Response {
///     match rejected.kind() {
///         Kind::RateLimited => "please come back later".into_response(),
///         _ => Http.respond(rejected),
///     }
/// };
/// # fn uses<L>(stack: L, responder: impl Fn(Rejected) -> Response) {
/// let layer = RespondLayer::new(responder, stack);
/// # }
/// ```
///
/// A closure that has to see the request stands in [`WithHead`](super::WithHead) or
/// [`PerRequest`](super::PerRequest).
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer<R, L> {
    responder: R,
    stack: L,
}

impl<R, L> RespondLayer<R, L> {
    /// Creates a layer that answers what this stack rejects with this responder's responses.
    pub const fn new(responder: R, stack: L) -> Self {
        Self { responder, stack }
    }
}

impl<S, R: Clone, L: Layer<Fallible<S>>> Layer<S> for RespondLayer<R, L> {
    type Service = RespondService<L::Service, R>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        RespondService {
            inner: self.stack.layer(Fallible { inner }),
            responder: self.responder.clone(),
            refused: None,
        }
    }
}

/// A service whose error is wrapped in [`Error`], so that it can hold a rejection. Built by
/// [`RespondLayer`], inside its stack.
#[derive(Clone, Copy, Debug)]
pub struct Fallible<S> {
    inner: S,
}

impl<S> Fallible<S> {
    inner_accessors!();
}

impl<S, Req> Service<Req> for Fallible<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = FallibleFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Service)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        FallibleFuture {
            call: self.inner.call(req),
        }
    }
}

pin_project! {
    /// The response future of a [`Fallible`] service.
    #[derive(Debug)]
    pub struct FallibleFuture<F> {
        #[pin]
        call: F,
    }
}

impl<F, T, E> Future for FallibleFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_err(Error::Service)
    }
}

/// A service that turns rejections into responses, built by [`RespondLayer`].
#[derive(Debug)]
pub struct RespondService<S, R /* `buttress::check` says why */> {
    inner: S,
    responder: R,
    /// What made the inner service not ready: the next call is answered with it.
    refused: Option<Rejected>,
}

impl<S, R> RespondService<S, R> {
    inner_accessors!();
}

impl<S: Clone, R: Clone> Clone for RespondService<S, R> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            responder: self.responder.clone(),
            refused: None,
        }
    }
}

impl<S, Req, R, B, E> Service<Req> for RespondService<S, R>
where
    Req: 'static,
    S: Service<Req, Response = Response<B>, Error = Error<E>>,
    R: RespondTo<Req>,
{
    type Response = Response<RespondBody<B, <R::Responder as Respond>::Body>>;
    type Error = E;
    type Future = RespondFuture<S::Future, R::Responder>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Error::Service(error)) => Poll::Ready(Err(error)),
            // No layer of this crate does that, but a rejection is not an error here: the call that
            // follows is answered, and the inner service, which is not ready, is not called.
            Err(Error::Rejected(rejected)) => {
                self.refused = Some(rejected);
                Poll::Ready(Ok(()))
            }
        }
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Before anything takes it apart.
        let responder = self.responder.respond_to(&req);
        let (req, request) = watch(req);
        let state = match self.refused.take() {
            None => State::Called {
                call: within(&request, || self.inner.call(req)),
            },
            Some(rejected) => State::Refused { rejected },
        };
        RespondFuture {
            state,
            responder,
            request,
        }
    }
}

pin_project! {
    /// The response future of [`RespondService`].
    #[derive(Debug)]
    pub struct RespondFuture<F, R> {
        #[pin]
        state: State<F>,
        responder: R,
        request: Option<WatchedRequest>,
    }

    impl<F, R> PinnedDrop for RespondFuture<F, R> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Whoever ends with it may have to know why.
            if this.request.is_some() {
                within(this.request, || this.state.set(State::Over));
            }
        }
    }
}

/// Runs the making of the call, or one poll of it, for those who work for this request.
#[inline]
fn within<T>(request: &Option<WatchedRequest>, f: impl FnOnce() -> T) -> T {
    match request {
        None => f(),
        Some(request) => {
            let mut context = context::current();
            context.request = request.state();
            context.enter(f)
        }
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] call: F },
        Refused { rejected: Rejected },
        Over,
    }
}

impl<F, R, B, E> Future for RespondFuture<F, R>
where
    F: Future<Output = Result<Response<B>, Error<E>>>,
    R: Respond,
{
    type Output = Result<Response<RespondBody<B, R::Body>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejected = match this.state.project() {
            StateProj::Called { call } => match ready!(within(this.request, || call.poll(cx))) {
                Ok(response) => {
                    let request = this.request.take();
                    let body = |body| RespondBody::service(body, request);
                    return Poll::Ready(Ok(response.map(body)));
                }
                Err(Error::Service(error)) => return Poll::Ready(Err(error)),
                Err(Error::Rejected(rejected)) => rejected,
            },
            StateProj::Refused { rejected } => *rejected,
            StateProj::Over => {
                debug_assert!(false, "a call was polled after its end");
                return Poll::Pending;
            }
        };
        let answer = this.responder.respond(rejected);
        Poll::Ready(Ok(answer.map(RespondBody::responder)))
    }
}

pin_project! {
    /// The body of a response that leaves a [`RespondLayer`]: the service's, or the responder's.
    #[derive(Debug)]
    pub struct RespondBody<B, O> {
        #[pin]
        body: Either<B, O>,
        request: Option<WatchedRequest>,
    }

    impl<B, O> PinnedDrop for RespondBody<B, O> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.request.is_some() {
                within(this.request, || this.body.set(Either::Over));
            }
        }
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = EitherProj]
    enum Either<B, O> {
        Service { #[pin] body: B },
        Responder { #[pin] body: O },
        Over,
    }
}

impl<B, O> RespondBody<B, O> {
    #[inline]
    const fn service(body: B, request: Option<WatchedRequest>) -> Self {
        let body = Either::Service { body };
        Self { body, request }
    }

    const fn responder(body: O) -> Self {
        Self {
            body: Either::Responder { body },
            request: None,
        }
    }
}

/// Makes the default of the responder's body, for layers further out that answer by themselves, as
/// tower-http's `CorsLayer` and `TimeoutLayer` do. So the service's body need not have a default.
impl<B, O: Default> Default for RespondBody<B, O> {
    fn default() -> Self {
        Self::responder(O::default())
    }
}

impl<B, O> Body for RespondBody<B, O>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
    O: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.body.project() {
            EitherProj::Service { body } => {
                within(this.request, || body.poll_frame(cx)).map_err(Into::into)
            }
            EitherProj::Responder { body } => body.poll_frame(cx).map_err(Into::into),
            EitherProj::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Either::Service { body } => body.is_end_stream(),
            Either::Responder { body } => body.is_end_stream(),
            Either::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Either::Service { body } => body.size_hint(),
            Either::Responder { body } => body.size_hint(),
            Either::Over => SizeHint::with_exact(0),
        }
    }
}
