//! The one edge at which rejections become answers.

use crate::error::{Error, Rejected};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// What a rejected call is answered with.
///
/// [`Http`](super::Http) and, with the `grpc` feature, `grpc::Grpc` are responders, and so is any
/// closure `Fn(Rejected) -> Response`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer rejections with `{Res}`",
    note = "`Http` needs a response body with `From<Bytes>`, `Grpc` one with `Default`",
    note = "any closure is a responder: `|rejected: Rejected| -> {Res} {{ ... }}`"
)]
pub trait Respond<Res> {
    /// The answer to a call that this policy refused, or gave up on.
    fn respond(&self, rejected: Rejected) -> Res;
}

impl<Res, F: Fn(Rejected) -> Res> Respond<Res> for F {
    fn respond(&self, rejected: Rejected) -> Res {
        self(rejected)
    }
}

/// A stack of layers, wrapped so that its rejections leave as responses.
///
/// Inside, the service's error is [`Error<E>`](Error), which every layer of this crate can reject
/// with; outside it is the service's own `E` again. So an `Infallible` service, such as an axum
/// `Router` or a tonic server, stays infallible, and errors of a fallible one pass unchanged.
/// A success costs nothing: no box, no allocation, one comparison.
///
/// The stack is any tower `Layer`. A tuple of layers is one too; like `ServiceBuilder`, it lets
/// requests through from left to right, the first being the outermost:
///
/// ```
/// # #[cfg(all(feature = "circuit-breaker", feature = "rate-limit"))] {
/// # use std::time::Duration;
/// use axum::{Router, routing::get};
/// use buttress::{circuit_breaker::CircuitBreaker, rate_limit::RateLimiter};
/// use buttress::http::{Http, RespondLayer};
///
/// let limiter = RateLimiter::builder("orders", 100, Duration::from_secs(60)).build()?;
/// let breaker = CircuitBreaker::new("orders");
/// let stack = (limiter.layer(), breaker.layer().http());
/// let app: Router = Router::new()
///     .route("/", get(|| async { "in" }))
///     .layer(RespondLayer::new(Http, stack));
/// # }
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
///
/// For an answer of your own, start from a ready-made one or from nothing:
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use buttress::{Kind, Rejected, http::{Http, Respond, RespondLayer}};
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
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer<R, L> {
    responder: R,
    stack: L,
}

impl<R, L> RespondLayer<R, L> {
    /// Answers what this stack rejects.
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

/// A service whose error can hold a rejection, because [`Error`] is around it.
#[derive(Clone, Copy, Debug)]
pub struct Fallible<S> {
    inner: S,
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
    /// The response of a [`Fallible`] service.
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

/// A service that answers rejections.
#[derive(Debug)]
pub struct RespondService<S, R> {
    inner: S,
    responder: R,
    /// What made the inner service not ready: the next call is answered with it.
    refused: Option<Rejected>,
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

impl<S, Req, R, E> Service<Req> for RespondService<S, R>
where
    S: Service<Req, Error = Error<E>>,
    R: Respond<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = E;
    type Future = RespondFuture<S::Future, R>;

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
        let state = match self.refused.take() {
            None => State::Called {
                call: self.inner.call(req),
            },
            Some(rejected) => State::Refused { rejected },
        };
        RespondFuture {
            state,
            responder: self.responder.clone(),
        }
    }
}

pin_project! {
    /// The response of a [`RespondService`] service.
    #[derive(Debug)]
    pub struct RespondFuture<F, R> {
        #[pin]
        state: State<F>,
        responder: R,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] call: F },
        Refused { rejected: Rejected },
    }
}

impl<F, R, T, E> Future for RespondFuture<F, R>
where
    F: Future<Output = Result<T, Error<E>>>,
    R: Respond<T>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejected = match this.state.project() {
            StateProj::Called { call } => match ready!(call.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(Error::Service(error)) => return Poll::Ready(Err(error)),
                Err(Error::Rejected(rejected)) => rejected,
            },
            StateProj::Refused { rejected } => *rejected,
        };
        Poll::Ready(Ok(this.responder.respond(rejected)))
    }
}
