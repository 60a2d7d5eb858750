//! Which HTTP requests may be sent again, and how.

use super::{
    NoProof, ServerErrorsAsFailures, UnsentProof,
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
/// - all requests, if [`all_methods`](RetryLayer::all_methods) is set;
/// - all requests that were provably never sent, if
///   [`repeat_unsent`](RetryLayer::repeat_unsent) says how that is known.
///
/// Other requests get one attempt only, and so do those of whose body some was read if it is over
/// the [cap](RetryLayer::body_cap).
///
/// From the second attempt on, a request has an [`Attempt`] in its extensions, and a gRPC request
/// has the header `grpc-previous-rpc-attempts`. The waits that a service asks for in `Retry-After`
/// (with any failure) or `grpc-retry-pushback-ms` are kept to. A response with a [`Rejected`] in
/// its extensions was made by a layer in this process, and is treated like that rejection.
#[derive(Clone, Copy, Debug)]
pub struct HttpReplay<M = AsReplayBody, P = NoProof> {
    all_methods: bool,
    /// Whether `proof` may ever find any: else nothing need be kept for it.
    repeats_unsent: bool,
    cap: usize,
    map: M,
    proof: P,
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

impl<M, P, C> RetryLayer<HttpReplay<M, P>, C>
where
    M: Clone + Send + Sync + 'static,
    P: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    /// Retries requests of every method. Off by default. It is for services that can take a request
    /// twice, because they recognise repetitions or because repetitions do no harm.
    #[must_use]
    pub fn all_methods(self) -> Self {
        self.with_methods(true)
    }

    /// Retries only requests of idempotent methods, and those that are marked. This is the default
    /// of `.http()`.
    ///
    /// It is for `.grpc()`, whose calls are all `POST`s: then only calls marked as [`Idempotent`],
    /// which have it in their extensions, are retried, and those that were
    /// [never sent](Self::repeat_unsent).
    #[must_use]
    pub fn idempotent_only(self) -> Self {
        self.with_methods(false)
    }

    fn with_methods(self, all_methods: bool) -> Self {
        self.with(|replay, classifier| {
            (
                HttpReplay {
                    all_methods,
                    ..replay.clone()
                },
                classifier.clone(),
            )
        })
    }

    /// Retries requests that were provably never sent whatever their method, and sets how errors
    /// prove that. By default nothing is taken for proof, because an error type need not say what
    /// it is.
    ///
    /// [`SourceChain`](super::SourceChain) knows a refused connection and a refused stream in any
    /// type that implements [`std::error::Error`]; [`UnsentProof`] says what else can be given. The
    /// body of such a request has not been read, in general, and is then sent again however long it
    /// is. The price: like idempotent requests, all requests are kept until they are answered,
    /// which takes a copy of their headers.
    ///
    /// Tell the client not to follow redirects: it may fail to connect for the second of two
    /// requests, when the first has been answered.
    ///
    /// ```
    /// use buttress::{Error, Retry, http::SourceChain};
    /// use reqwest::{Body, Client, redirect::Policy};
    /// use tower::ServiceBuilder;
    ///
    /// let client = Client::builder().redirect(Policy::none()).build()?;
    /// let retry = Retry::new("orders").layer().http().repeat_unsent(SourceChain);
    /// let orders = ServiceBuilder::new()
    ///     .layer(retry.map_body(Body::wrap))
    ///     .map_err(Error::Service)
    ///     .map_response(http::Response::<Body>::from)
    ///     .service_fn(move |request: http::Request<Body>| {
    ///         let client = client.clone();
    ///         async move { client.execute(request.try_into()?).await }
    ///     });
    /// # fn check<S: tower::Service<http::Request<Body>>>(_: S) {}
    /// # check(orders);
    /// # Ok::<_, reqwest::Error>(())
    /// ```
    pub fn repeat_unsent<P2>(self, proof: P2) -> RetryLayer<HttpReplay<M, P2>, C>
    where
        P2: Clone + Send + Sync + 'static,
    {
        self.with(|replay, classifier| {
            let replay = HttpReplay {
                all_methods: replay.all_methods,
                repeats_unsent: true,
                cap: replay.cap,
                map: replay.map.clone(),
                proof,
            };
            (replay, classifier.clone())
        })
    }

    /// Sets the longest body, in bytes, that is kept to be sent again. With 0, only requests
    /// without a body are retried, and those of whose body nothing was read.
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
    pub fn map_body<F>(self, f: F) -> RetryLayer<HttpReplay<F, P>, C>
    where
        F: Clone + Send + Sync + 'static,
    {
        self.with(|replay, classifier| {
            let replay = HttpReplay {
                all_methods: replay.all_methods,
                repeats_unsent: replay.repeats_unsent,
                cap: replay.cap,
                map: f,
                proof: replay.proof.clone(),
            };
            (replay, classifier.clone())
        })
    }
}

impl Default for HttpReplay {
    fn default() -> Self {
        Self {
            all_methods: false,
            repeats_unsent: false,
            cap: 64 * 1024,
            map: AsReplayBody,
            proof: NoProof,
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

impl<M, P> HttpReplay<M, P> {
    fn is_repeatable(&self, head: &Parts) -> bool {
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
    /// Whether it may be sent again though it may have been sent.
    is_repeatable: bool,
}

impl<B: Body, M: MapBody<B>, P> Replay<Request<B>> for HttpReplay<M, P> {
    type Request = Request<M::Body>;
    type Kept = RecordedRequest<B>;

    fn first_request(&self, req: Request<B>) -> (Self::Request, Option<Self::Kept>) {
        let (head, body) = req.into_parts();
        let is_repeatable = self.is_repeatable(&head);
        if !is_repeatable && !self.repeats_unsent {
            let body = self.map.map(ReplayBody::once(body));
            return (Request::from_parts(head, body), None);
        }
        let (body, recorded) = ReplayBody::kept(body, self.cap);
        let kept = RecordedRequest {
            head: head.clone(),
            body: recorded,
            is_repeatable,
        };
        (Request::from_parts(head, self.map.map(body)), Some(kept))
    }

    fn may_repeat(&self, kept: &Self::Kept, unsent: bool) -> bool {
        kept.is_repeatable || unsent
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

impl<M, P, B, E> Pushback<Response<B>, E> for HttpReplay<M, P>
where
    P: UnsentProof<E>,
{
    fn is_unsent(&self, error: &E) -> bool {
        self.proof.proves_unsent(error)
    }

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
