//! Tower layers that keep a service answering when what it depends on is slow, failing,
//! overloaded or gone.
//!
//! A policy is created once, as a handle. Every layer made from the handle, every service that such
//! a layer builds, and every clone of any of them share the policy's state.
//!
//! # Which policy for which trouble
//!
//! | trouble | policy | kind |
//! |---|---|---|
//! | a dependency fails, or hangs | [`CircuitBreaker`], one for each key with [`KeyedCircuitBreaker`](circuit_breaker::KeyedCircuitBreaker) | guard |
//! | a client asks too often | [`RateLimiter`], or [`WaitingLimiter`](rate_limit::WaitingLimiter) if calls should wait in order | guard |
//! | more calls arrive than the service can handle | [`LoadShed`], which rejects calls at once, has them wait in a bounded queue ([`Queued`](load_shed::Queued)), or holds callers back ([`Backpressure`](load_shed::Backpressure)) | guard |
//! | a service you call says that it is overloaded | [`Throttle`], which throttles on the client's side | guard |
//! | an attempt takes too long, or its body comes too slowly | [`Timeout`] | attempt |
//! | a call as a whole takes too long | [`DeadlineLayer`]; between services, [`DeadlineHeaderLayer`](http::DeadlineHeaderLayer) | attempt |
//! | a call fails now and then | [`Retry`], with a [`Budget`](retry::Budget) | attempt |
//! | a database is slow, or away | [`Cache`]: in [memory](cache::MemoryStore), in [Redis](redis::RedisStore), or [both](redis::Tiered) | stand-in |
//! | a limit is to be tried before it refuses anybody | [`Shadow`](guard::Shadow) around a guard | guard |
//! | a rejection has to become a response | [`RespondLayer`](http::RespondLayer), with [`Http`](http::Http) or [`Grpc`](grpc::Grpc) | adapter |
//! | you want to see what the policies do | [`Registry`](registry::Registry); [`events`] for a callback | adapter |
//!
//! A *guard* decides whether a call may start, and learns from how it ends. An *attempt* policy
//! bounds how long or how often a call is tried. A *stand-in* answers in place of the service. An
//! *adapter* connects policies to the world outside.
//!
//! # Features
//!
//! Nothing is on by default; `full` is everything.
//!
//! ```toml
//! # a client of an HTTP service
//! buttress = { version = "0.1", features = ["circuit-breaker", "http", "retry", "timeout"] }
//! # an axum server
//! buttress = { version = "0.1", features = ["axum", "http", "load-shed", "rate-limit", "timeout"] }
//! ```
//!
//! Each policy has a feature: `circuit-breaker`, `rate-limit`, `load-shed`, `throttle`, `timeout`,
//! `retry`, `cache`. So has each adapter: `http`, `grpc`, `redis`, and `registry` (snapshots that
//! serde can serialise, and export through the `metrics` crate). `axum` lets policies inside nested
//! axum routers tell requests apart by their whole path, and makes rejections responses
//! (`IntoResponse`). `anyhow` lets policies find a rejection in an `anyhow::Error` (see
//! [`recognize`]).
//!
//! # A server
//!
//! ```
//! # #[cfg(all(feature = "http", feature = "load-shed", feature = "timeout"))] {
//! use axum::{Router, routing::get};
//! use buttress::{LoadShed, http::{DeadlineHeaderLayer, Http, RespondLayer}};
//! use std::time::Duration;
//!
//! let stack = (
//!     DeadlineHeaderLayer::at_most("api", Duration::from_secs(5)),
//!     LoadShed::new("api").queued().layer().http(),
//! );
//! let app: Router = Router::new()
//!     .route("/orders", get(|| async { "[]" }))
//!     .layer(RespondLayer::new(Http, stack)); // 503 with Retry-After, 504
//! # }
//! ```
//!
//! # A client
//!
//! ```
//! # #[cfg(all(feature = "circuit-breaker", feature = "timeout"))] {
//! use buttress::{CircuitBreaker, Error, Timeout};
//! use std::{io, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let breaker = CircuitBreaker::new("stock");
//! let timeout = Timeout::new("stock", Duration::from_millis(500));
//!
//! let ask = async || Ok::<_, Error<io::Error>>(7);
//! match breaker.run(async || timeout.run(ask).await).await {
//!     Ok(stock) => assert_eq!(stock, 7),
//!     Err(Error::Rejected(rejected)) => println!("not asked, or given up: {rejected}"),
//!     Err(Error::Service(error)) => println!("failed: {error}"),
//! }
//! # }
//! # }
//! ```
//!
//! As a tower stack: see [`http`] for reqwest and hyper, [`grpc`] for tonic.
//!
//! # The order of layers
//!
//! Outermost first, a server has: respond, deadline, rate limit, load shed, cache. A client has:
//! cache, breaker, retry, throttle, timeout. The README shows this order in a picture, with
//! reasons.
//!
//! # What holds for all policies
//!
//! **Errors.** A layer never changes the error type. It requires that a [`Rejected`] can be turned
//! into `S::Error` ([`FromRejected`]). An error type that is not yours is wrapped once, at the
//! bottom of the stack, in [`Error`]. At a server's edge, `http::RespondLayer` turns rejections
//! into responses.
//!
//! **Outcomes.** One classifier ([`Classify`]) can serve a whole stack. It tells an overloaded
//! dependency from a failing one: a breaker does not count overload as a failure, and a retry waits
//! for as long as the dependency asks, or returns its answer at once if that is too long. A layer
//! that learns from how calls end has to be told what a response means, by `.http()`, `.grpc()` or
//! `.classify(..)`: see [`guard::Strategy`]. To a closure's `run` every `Err` but the refusal of a
//! policy inside is a failure, unless it is told otherwise in the same way:
//! `policy.classify(classifier).run(..)`.
//!
//! **Closures.** `policy.run(op)` runs a closure that returns a future. Where the policy tells
//! requests apart, by a key, a cost or a priority, `policy.run_for(&request, op)` does. These
//! futures are `Send` if what the closure captures is.
//!
//! **Time.** All policies follow tokio's clock, so `tokio::time::pause` controls them in your
//! tests.
//!
//! **When it does not compile**, [`check`] makes the compiler say what a stack lacks, and
//! [a page](when_it_does_not_compile) lists common mistakes and how to fix them.
//!
//! **A guard of your own** takes two functions: see [`guard`].
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod macros;

mod check;
mod classify;
mod clock;
pub mod context;
mod criticality;
// Which policies and builders need it depends on which are compiled in.
#[cfg_attr(not(feature = "full"), allow(dead_code, unreachable_pub))]
mod cure;
mod error;
mod errors_by;
pub mod events;
pub mod guard;
// Which layers use them depends on which are compiled in.
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod key;
#[cfg(any(feature = "circuit-breaker", feature = "rate-limit"))]
mod key_table;
// Whoever ends a call reads it, and only servers write it.
#[cfg_attr(not(any(feature = "axum", feature = "grpc")), allow(dead_code))]
mod request_state;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod rng;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod shared;
#[cfg(any(feature = "circuit-breaker", feature = "throttle"))]
// A throttle needs less of it.
#[cfg_attr(not(feature = "circuit-breaker"), allow(dead_code))]
mod sliding_window;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod striped;

#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "load-shed")]
pub mod load_shed;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "throttle")]
pub mod throttle;
#[cfg(feature = "timeout")]
pub mod timeout;

pub use check::check;
pub use classify::{Classify, ErrorsAsFailures, Outcome};
pub use clock::{Now, Time};
pub use criticality::{Criticality, UnknownCriticality};
pub use error::{AsRejected, Error, FromRejected, InvalidConfig, Kind, Name, Rejected, recognize};
pub use errors_by::ErrorsBy;
pub use guard::{Classified, Guard, GuardBase, GuardLayer, ReserveLayer, WaitLayer};
pub use key::{BorrowedKey, Global, Key, borrowed_key};

#[cfg(feature = "cache")]
pub use cache::Cache;
#[cfg(feature = "circuit-breaker")]
pub use circuit_breaker::CircuitBreaker;
#[cfg(feature = "load-shed")]
pub use load_shed::LoadShed;
#[cfg(feature = "rate-limit")]
pub use rate_limit::RateLimiter;
#[cfg(feature = "retry")]
pub use retry::Retry;
#[cfg(feature = "throttle")]
pub use throttle::Throttle;
#[cfg(feature = "timeout")]
pub use timeout::{DeadlineLayer, Timeout};

#[cfg(any(doc, doctest))]
// Its examples need everything.
#[cfg_attr(
    any(not(doctest), feature = "full"),
    doc = include_str!("when_it_does_not_compile.md")
)]
pub mod when_it_does_not_compile {}

/// The README's examples are tests too.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;
