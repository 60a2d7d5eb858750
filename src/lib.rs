//! Tower layers that keep a service answering when what it depends on is slow, failing,
//! overloaded or gone.
//!
//! A policy is made once, as a handle. Every layer made from it, every service that layer builds
//! and every clone of either share its state.
//!
//! # Which policy for which trouble
//!
//! | trouble | policy | kind |
//! |---|---|---|
//! | a dependency fails, or hangs | [`CircuitBreaker`], one for each key with [`KeyedCircuitBreaker`](circuit_breaker::KeyedCircuitBreaker) | guard |
//! | a client asks too often | [`RateLimiter`], waiting in order with [`WaitingLimiter`](rate_limit::WaitingLimiter) | guard |
//! | there is more to do than can be done | [`LoadShed`]: rejecting, [`Queued`](load_shed::Queued), or with [`Backpressure`](load_shed::Backpressure) | guard |
//! | a service refuses what it is sent | [`Throttle`], on the client's side | guard |
//! | an attempt takes too long | [`Timeout`] | attempt |
//! | a call as a whole takes too long | [`DeadlineLayer`](timeout::DeadlineLayer), over services with [`DeadlineHeaderLayer`](http::DeadlineHeaderLayer) | attempt |
//! | a call fails once | [`Retry`], with a [`Budget`](retry::Budget) | attempt |
//! | a database is slow, or away | [`Cache`]: in [memory](cache::MemoryStore), in [Redis](redis::RedisStore), or [both](redis::Tiered) | stand-in |
//! | a rejection has to become an answer | [`RespondLayer`](http::RespondLayer), with [`Http`](http::Http) or [`Grpc`](grpc::Grpc) | adapter |
//! | nobody knows what they are doing | [`Registry`](registry::Registry) | adapter |
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
//! A policy is a feature: `circuit-breaker`, `rate-limit`, `load-shed`, `throttle`, `timeout`,
//! `retry`, `cache`. So is what they meet outside: `http`, `grpc`, `redis`, `registry` (snapshots
//! with serde, and `metrics`). `axum` knows requests of nested axum routers by their whole path, and
//! makes rejections responses (`IntoResponse`).
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
//!     .layer(RespondLayer::new(Http, stack)); // 503 and 504, with Retry-After
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
//! Outermost first. A server: respond, deadline, rate limit, load shed, cache. A client: cache,
//! breaker, retry, throttle, timeout. The README has it in a picture, with reasons.
//!
//! # What holds for all
//!
//! **Errors.** A layer never changes the error type: it asks that `S::Error` can be made from a
//! [`Rejected`] ([`FromRejected`]). A foreign error type is wrapped once, at the bottom of the
//! stack, in [`Error`]. At a server's edge `http::RespondLayer` answers instead.
//!
//! **Outcomes.** One [`Classify`] serves a whole stack. An overloaded dependency is told apart from
//! a failing one everywhere: a breaker must not count it, a retry must wait for it. A layer that
//! learns from ends has to be told what they mean ([`guard::Strategy`]).
//!
//! **Time.** Everything follows tokio's clock, so `tokio::time::pause` drives it in your tests too.
//!
//! **When it does not compile**, [`check`] has the compiler say what a stack lacks, and
//! [a page](when_it_does_not_compile) has the first mistakes, and their cures.
//!
//! **A guard of your own** is two functions: see [`guard`].
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
pub mod guard;
// Which layers use them depends on which are compiled in.
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod key;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod key_table;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod rng;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod shared;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
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
pub use error::{AsRejected, Error, FromRejected, InvalidConfig, Kind, Name, Rejected};
pub use guard::{Guard, GuardBase, GuardLayer, ReserveLayer, WaitLayer};
pub use key::{Global, Key};

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
pub use timeout::Timeout;

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
