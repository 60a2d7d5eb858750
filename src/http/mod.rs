//! HTTP: responses for rejections, what a status means, who the client is, deadlines, retries and
//! caching.
//!
//! It works with every service that takes `http::Request`s and returns `http::Response`s: axum,
//! hyper, reqwest, tonic. It decides
//!
//! - which response a [`Rejected`](crate::Rejected) becomes: [`Http`], or any [responder](Respond);
//! - what a response says about the service that sent it: [`ServerErrorsAsFailures`];
//! - when a call is over: at the end of the response's body, by the strategy [`OnBodyEnd`], which
//!   `layer().http()` sets.
//!
//! Some of it needs the feature of a policy as well:
//!
//! | for | on the server | on the client |
//! |---|---|---|
//! | rejections as responses | [`RespondLayer`] with [`Http`] | |
//! | deadlines | [`DeadlineHeaderLayer`] | [`DeadlineHeaderClientLayer`] |
//! | bodies that stall, or come too slowly | [`TimeoutLayer::http`](crate::timeout::TimeoutLayer::http), for uploads | the same, for downloads |
//! | criticality | [`CriticalityHeaderLayer`] | [`CriticalityHeaderClientLayer`] |
//! | what is left of a quota | [`RateLimitHeadersLayer`] | |
//! | who is asking, as a key | [`ClientAddr`], [`HeaderKey`], [`PathKey`] | |
//! | retries | | [`RetryLayer::http`](crate::retry::RetryLayer::http) |
//! | caching | [`Cache::http_layer`](crate::cache::Cache::http_layer) | the same |
//!
//! A server answers rejections at its edge, in one place:
//!
//! ```
//! # #[cfg(feature = "load-shed")] {
//! use axum::{Router, routing::get};
//! use buttress::{LoadShed, http::{Http, RespondLayer}};
//!
//! let requests = LoadShed::new("requests");
//! let app: Router = Router::new()
//!     .route("/orders", get(|| async { "[]" }))
//!     .layer(RespondLayer::new(Http, requests.queued().layer().http()));
//! # }
//! ```
//!
//! A client wraps the service's error once, below all layers, and handles rejections:
//!
//! ```no_run
//! # #[cfg(feature = "circuit-breaker")] {
//! # async fn get() -> Result<(), reqwest::Error> {
//! use buttress::{Error, circuit_breaker::CircuitBreaker};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! let breaker = CircuitBreaker::new("orders");
//! let client = reqwest::Client::new();
//! let mut orders = ServiceBuilder::new()
//!     .layer(breaker.layer().http())
//!     .map_err(Error::Service)
//!     .map_response(http::Response::<reqwest::Body>::from)
//!     .service(client.clone());
//!
//! let request = client.get("http://orders.local/orders").build()?;
//! match orders.ready().await {
//!     Err(error) => eprintln!("not ready: {error}"),
//!     Ok(orders) => match orders.call(request).await {
//!         Ok(response) => println!("{}", response.status()),
//!         Err(Error::Rejected(rejected)) => println!("not called: {rejected}"),
//!         Err(Error::Service(error)) => println!("failed: {error}"),
//!     },
//! }
//! # Ok(()) }
//! # }
//! ```
//!
//! # Trade-offs
//!
//! With `.http()` a permit is held until the body ends. So a concurrency limit also counts calls
//! whose clients read slowly, since these occupy the service; but the time that a client takes to
//! read becomes part of the call's time. Where only the time to the response's head matters, use
//! `.classify(ServerErrorsAsFailures)` instead of `.http()`.
//!
//! The body of a request to an axum or tonic server is watched at [`RespondLayer`], for one
//! allocation if it has not ended: a call that ends because its caller's own body broke off teaches
//! the policies inside nothing. At most 65,536 requests are watched at once; others end as if their
//! bodies were whole.
//!
//! A response's body that goes on under limits costs three allocations, and a fourth if a minimum
//! rate is asked of it ([`MinRate`]): a reader that was woken and comes late is not taken for a
//! slow sender.
//!
//! An upgraded connection, such as a WebSocket, is no body: its call ends with the 101. What is to
//! hold a permit for as long as it is open asks for one with [`guard::hold`](crate::guard::hold).

mod answer;
#[cfg(feature = "timeout")]
mod body_limit;
#[cfg(feature = "cache")]
mod cache;
mod classify;
#[cfg(any(feature = "grpc", feature = "retry", feature = "timeout"))]
mod content_type;
#[cfg(feature = "load-shed")]
mod context_body;
#[cfg(feature = "load-shed")]
mod criticality;
#[cfg(feature = "timeout")]
mod deadline;
#[cfg(feature = "rate-limit")]
mod fields;
mod forwarded;
#[cfg(feature = "axum")]
mod into_response;
mod keys;
mod marker;
mod proxies;
#[cfg(any(feature = "grpc", feature = "retry"))]
mod pushback;
#[cfg(feature = "retry")]
mod replay;
mod respond;
mod respond_to;
#[cfg(feature = "retry")]
mod retry;
mod settle;
mod target;
#[cfg(feature = "timeout")]
mod time_left;
#[cfg(feature = "retry")]
mod unsent;
// Bodies are watched of those servers that are compiled in.
#[cfg_attr(
    not(any(feature = "axum", feature = "grpc")),
    allow(dead_code, unused_imports)
)]
mod watch;

pub use answer::{Http, ProblemBody};
#[cfg(feature = "timeout")]
pub use body_limit::{
    AnyUpload, AsUploadBody, BodyCut, BodyDeadlineFuture, BodyDeadlineLayer, BodyDeadlineService,
    BodyLimit, BodyTimeoutFuture, BodyTimeoutLayer, BodyTimeoutService, LimitedBody, MapUploadBody,
    MinRate, PrepareUpload, UploadBody, UploadLimit,
};
#[cfg(feature = "cache")]
pub use cache::{CacheBody, HttpAdapter, StoredResponse};
pub use classify::ServerErrorsAsFailures;
#[cfg(feature = "load-shed")]
pub use context_body::ContextBody;
#[cfg(feature = "load-shed")]
pub use criticality::{
    ByCriticality, CRITICALITY_HEADER, CriticalityHeaderClientLayer,
    CriticalityHeaderClientService, CriticalityHeaderFuture, CriticalityHeaderLayer,
    CriticalityHeaderService,
};
#[cfg(feature = "timeout")]
pub use deadline::{
    DeadlineHeaderClientLayer, DeadlineHeaderClientService, DeadlineHeaderFuture,
    DeadlineHeaderLayer, DeadlineHeaderService,
};
#[cfg(feature = "rate-limit")]
pub use fields::{RateLimitHeadersFuture, RateLimitHeadersLayer, RateLimitHeadersService};
pub use keys::{ClientAddr, HeaderKey, OriginalPathKey, PathKey, PeerAddr};
pub use proxies::TrustedProxies;
#[cfg(feature = "retry")]
pub use replay::{RecordedBody, ReplayBody};
pub use respond::{
    Fallible, FallibleFuture, Respond, RespondBody, RespondFuture, RespondLayer, RespondService,
    RespondTo,
};
pub use respond_to::{HeadResponder, PerRequest, WithHead};
#[cfg(feature = "retry")]
pub use retry::{AsReplayBody, HttpReplay, Idempotent, MapBody, RecordedRequest};
pub use settle::{BodyEnd, GuardedBody, OnBodyEnd};

#[cfg(feature = "timeout")]
pub(crate) use marker::mark;
#[cfg(feature = "timeout")]
pub use time_left::DEADLINE_HEADER;
#[cfg(feature = "retry")]
pub use unsent::{NoProof, SourceChain, UnsentProof, is_unsent};
#[cfg(feature = "grpc")]
pub(crate) use {
    classify::{is_callers_deadline, rejection},
    content_type::GrpcType,
    marker::{REJECTED_NAME, marked, token},
    pushback::{PUSHBACK, ServerPushback},
    settle::settle_by_head,
};
