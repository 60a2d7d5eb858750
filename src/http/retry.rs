//! Which HTTP requests may be sent again, and how.

use super::{
    ServerErrorsAsFailures,
    classify::retry_after,
    content_type::GrpcType,
    pushback::ServerPushback,
    replay::{RecordedBody, ReplayBody},
};
use crate::{
    error::Rejected,
    guard::OnResponse,
    retry::{Attempt, Hint, Pushback, Replay, RetryLayer},
};
use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::Body;

/// The strategy that sends HTTP requests again if that is safe, and if they are small enough to
/// keep.
///
/// Made by [`RetryLayer::http`]. These requests are safe to send again:
///
/// - those with a method that RFC 9110 (section 9.2.2) calls idempotent: GET, HEAD, PUT, DELETE,
///   OPTIONS and TRACE;
/// - those with an `Idempotency-Key` header, by which the service recognises repetitions;
/// - those marked as [`Idempotent`];
/// - all requests, if [`all_methods`](RetryLayer::all_methods) is set.
///
/// Other requests, and those with a body over the [cap](RetryLayer::body_cap), get one attempt
/// only.
///
/// From the second attempt on, a request has an [`Attempt`] in its extensions, and a gRPC request
/// has the header `grpc-previous-rpc-attempts`. The waits that a service asks for in `Retry-After`
/// (with any failure) or `grpc-retry-pushback-ms` are kept to. A response with a [`Rejected`] in
/// its extensions was made by a layer in this process, and is treated like that rejection.
#[derive(Clone, Copy, Debug)]
pub struct HttpReplay<M = AsReplayBody> {
    all_methods: bool,
    cap: usize,
    map: M,
}

/// An extension that marks a request as safe to send again, whatever its method.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Idempotent;

impl<R, C> RetryLayer<R, C> {
    /// Makes this a retry for HTTP: it retries idempotent requests only, keeps bodies up to 64 KiB,
    /// and takes server errors for failures. See [`HttpReplay`].
    ///
    /// The inner service is called with `http::Request<ReplayBody<B>>`. That suits services that
    /// take any body, such as axum's routes, or a hyper client made for this body. For a service
    /// that takes one particular body use [`map_body`](RetryLayer::map_body) as well.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use buttress::{http::{Http, RespondLayer}, retry::Retry};
    ///
    /// let retry = Retry::new("orders");
    /// let app: Router = Router::new()
    ///     .route("/orders", get(|| async { "[]" }))
    ///     .layer(RespondLayer::new(Http, retry.layer().http()));
    /// ```
    pub fn http(self) -> RetryLayer<HttpReplay, OnResponse<ServerErrorsAsFailures>> {
        self.with(|_, _| (HttpReplay::default(), OnResponse(ServerErrorsAsFailures)))
    }
}

impl<M: Clone + Send + Sync + 'static, C: Clone + Send + Sync + 'static>
    RetryLayer<HttpReplay<M>, C>
{
    /// Retries requests of every method. Off by default. It is for services that can take a request
    /// twice, because they recognise repetitions or because repetitions do no harm.
    #[must_use]
    pub fn all_methods(self) -> Self {
        self.with(|replay, classifier| {
            let all_methods = true;
            (
                HttpReplay {
                    all_methods,
                    ..replay.clone()
                },
                classifier.clone(),
            )
        })
    }

    /// Sets the longest body, in bytes, that is kept to be sent again. With 0, only requests
    /// without a body are retried.
    ///
    /// The default is 64 KiB: most requests with a body of JSON or protobuf are smaller, and ten
    /// thousand calls in flight keep no more than 625 MiB.
    #[must_use]
    pub fn body_cap(self, cap: usize) -> Self {
        self.with(|replay, classifier| {
            (
                HttpReplay {
                    cap,
                    ..replay.clone()
                },
                classifier.clone(),
            )
        })
    }

    /// Sets the function that makes the inner service's request body from the [`ReplayBody`], such
    /// as `axum::body::Body::new`, `tonic::body::Body::new` or `reqwest::Body::wrap`.
    ///
    /// ```
    /// use buttress::{Error, retry::Retry};
    /// use http::{Request, Response};
    /// use tower::{ServiceBuilder, service_fn};
    /// use axum::body::Body;
    ///
    /// let orders = ServiceBuilder::new()
    ///     .layer(Retry::new("orders").layer().http().map_body(Body::new))
    ///     .map_err(Error::<std::io::Error>::Service)
    ///     .service(service_fn(async |request: Request<Body>| {
    ///         Ok::<_, std::io::Error>(Response::new(request.into_body()))
    ///     }));
    /// # fn check<S: tower::Service<Request<Body>>>(_: S) {}
    /// # check(orders);
    /// ```
    pub fn map_body<F: Clone + Send + Sync + 'static>(self, f: F) -> RetryLayer<HttpReplay<F>, C> {
        self.with(|replay, classifier| {
            let &HttpReplay {
                all_methods, cap, ..
            } = replay;
            (
                HttpReplay {
                    all_methods,
                    cap,
                    map: f,
                },
                classifier.clone(),
            )
        })
    }
}

impl Default for HttpReplay {
    fn default() -> Self {
        Self {
            all_methods: false,
            cap: 64 * 1024,
            map: AsReplayBody,
        }
    }
}

/// A function that makes the inner service's request body from a [`ReplayBody`]. Closures are one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a body of a `ReplayBody<{B}>`",
    label = "takes another body",
    note = "`reqwest::Body::wrap`, `axum::body::Body::new` and `tonic::body::Body::new` do"
)]
pub trait MapBody<B> {
    /// The inner service's request body.
    type Body;
    /// Returns the inner service's body for this one.
    fn map(&self, body: ReplayBody<B>) -> Self::Body;
}

/// The default body function, which passes on the [`ReplayBody`] itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsReplayBody;

impl<B> MapBody<B> for AsReplayBody {
    type Body = ReplayBody<B>;
    fn map(&self, body: ReplayBody<B>) -> ReplayBody<B> {
        body
    }
}

#[diagnostic::do_not_recommend]
impl<B, B2, F: Fn(ReplayBody<B>) -> B2> MapBody<B> for F {
    type Body = B2;
    fn map(&self, body: ReplayBody<B>) -> B2 {
        self(body)
    }
}

impl<M> HttpReplay<M> {
    fn may_repeat(&self, head: &Parts) -> bool {
        const KEY: HeaderName = HeaderName::from_static("idempotency-key");
        self.all_methods
            || head.method.is_idempotent()
            || head.headers.contains_key(KEY)
            || head.extensions.get::<Idempotent>().is_some()
    }
}

/// What the HTTP requests of further attempts are made from.
#[derive(Debug)]
pub struct RecordedRequest<B> {
    head: Parts,
    body: RecordedBody<B>,
}

impl<B: Body, M: MapBody<B>> Replay<Request<B>> for HttpReplay<M> {
    type Request = Request<M::Body>;
    type Kept = RecordedRequest<B>;

    fn first_request(&self, req: Request<B>) -> (Self::Request, Option<Self::Kept>) {
        let (head, body) = req.into_parts();
        let (body, kept) = if self.may_repeat(&head) {
            ReplayBody::kept(body, self.cap)
        } else {
            (ReplayBody::once(body), None)
        };
        let kept = kept.map(|body| RecordedRequest {
            head: head.clone(),
            body,
        });
        (Request::from_parts(head, self.map.map(body)), kept)
    }

    fn next_request(&self, kept: &mut Self::Kept, attempt: u32) -> Option<Self::Request> {
        const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
        let body = kept.body.again()?;
        let mut head = kept.head.clone();
        head.extensions.insert(Attempt(attempt));
        if GrpcType::of(&head.headers).is_some() {
            let previous = HeaderValue::from(attempt.saturating_sub(1));
            head.headers.insert(PREVIOUS, previous);
        }
        Some(Request::from_parts(head, self.map.map(body)))
    }
}

impl<M, B, E> Pushback<Response<B>, E> for HttpReplay<M> {
    fn hint(&self, result: Result<&Response<B>, &E>) -> Hint {
        let Ok(response) = result else {
            return Hint::None;
        };
        if let Some(rejected) = response.extensions().get::<Rejected>()
            && !rejected.kind().is_failure()
        {
            return Hint::Stop;
        }
        let headers = response.headers();
        match ServerPushback::read(headers) {
            Some(ServerPushback::After(wait)) => Hint::Exactly(wait),
            Some(ServerPushback::Never) => Hint::Stop,
            None => retry_after(headers).map_or(Hint::None, Hint::After),
        }
    }
}
