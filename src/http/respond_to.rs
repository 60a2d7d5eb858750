//! Responders that see the request which was rejected.

use super::respond::{BoxError, Respond, RespondTo};
use crate::error::Rejected;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

/// The responder that answers by a rejection and the head of the request which was rejected.
///
/// The closure is `Fn(Rejected, &http::Request<()>) -> http::Response<_>`. The head is the whole
/// request without its body: method, URI, version, headers and extensions. All of that is cloned
/// for every request, also for those that are let in. Where this costs too much, [`PerRequest`]
/// keeps only what the answer depends on.
///
/// ```
/// # #[cfg(feature = "load-shed")] {
/// use axum::response::{Html, IntoResponse, Response};
/// use buttress::{LoadShed, Rejected, http::{Http, RespondLayer, WithHead}};
/// use http::{Request, header::ACCEPT};
///
/// let responder = WithHead(|rejected: Rejected, head: &Request<()>| -> Response {
///     match head.headers().get(ACCEPT) {
///         Some(accept) if accept.as_bytes().starts_with(b"text/html") => {
///             let answer: Response = Http.respond(rejected);
///             (answer.status(), Html("<h1>Please come back in a minute</h1>")).into_response()
///         }
///         _ => Http.respond(rejected),
///     }
/// });
/// let app: axum::Router = axum::Router::new()
///     .layer(RespondLayer::new(responder, LoadShed::new("api").layer().http()));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WithHead<F>(pub F);

impl<T, F, O> RespondTo<Request<T>> for WithHead<F>
where
    F: Fn(Rejected, &Request<()>) -> Response<O> + Clone,
    O: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Responder = HeadResponder<F>;

    fn respond_to(&self, req: &Request<T>) -> HeadResponder<F> {
        let mut head = Request::new(());
        *head.method_mut() = req.method().clone();
        *head.uri_mut() = req.uri().clone();
        *head.version_mut() = req.version();
        *head.headers_mut() = req.headers().clone();
        *head.extensions_mut() = req.extensions().clone();
        HeadResponder {
            closure: self.0.clone(),
            head,
        }
    }
}

/// The responder of [`WithHead`] for one request.
#[derive(Clone, Debug)]
pub struct HeadResponder<F> {
    closure: F,
    head: Request<()>,
}

impl<F, O> Respond for HeadResponder<F>
where
    F: Fn(Rejected, &Request<()>) -> Response<O>,
    O: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Body = O;

    fn respond(&self, rejected: Rejected) -> Response<O> {
        (self.closure)(rejected, &self.head)
    }
}

/// The responder that asks a closure for a responder to each request.
///
/// The closure is `Fn(&Req) -> R`, where `R` is any [`Respond`]: it keeps what the answer will
/// depend on, and nothing else. It runs for every request, also for those that are let in.
///
/// ```
/// # #[cfg(feature = "load-shed")] {
/// use axum::{body::Body, response::Response};
/// use buttress::{LoadShed, Rejected, http::{Http, PerRequest, RespondLayer}};
/// use http::{Request, header::CONNECTION};
///
/// let responder = PerRequest(|request: &Request<Body>| {
///     let upload = request.method() == "PUT";
///     move |rejected: Rejected| -> Response {
///         let mut answer: Response = Http.respond(rejected);
///         if upload {
///             // Nobody is going to read the rest of it.
///             let close = http::HeaderValue::from_static("close");
///             answer.headers_mut().insert(CONNECTION, close);
///         }
///         answer
///     }
/// });
/// let app: axum::Router = axum::Router::new()
///     .layer(RespondLayer::new(responder, LoadShed::new("api").layer().http()));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PerRequest<F>(pub F);

impl<Req, F, R> RespondTo<Req> for PerRequest<F>
where
    F: Fn(&Req) -> R,
    R: Respond,
{
    type Responder = R;

    #[inline]
    fn respond_to(&self, req: &Req) -> R {
        (self.0)(req)
    }
}
