//! Tower layers that keep a service answering when what it depends on is slow, failing,
//! overloaded or gone.
//!
//! A policy is made once, as a handle. Every layer made from it, every service that layer builds
//! and every clone of either share its state.
//!
//! | kind | question | policies |
//! |---|---|---|
//! | guard | may this call start, and what does its end teach? | [`circuit_breaker`], [`rate_limit`], [`load_shed`], [`throttle`] |
//! | attempt | how long, how often? | [`timeout`] and deadline, [`retry`] |
//! | stand-in | who else can answer? | [`cache`], in memory and in [`redis`] |
//!
//! [`http`] and [`grpc`] are where they meet the outside: what a rejection looks like, what a
//! status means, who the client is. [`registry`] shows what they are doing. Every policy is a
//! feature of its own; nothing is on by default. The feature `axum` is for servers with nested axum
//! routers: requests are then known by their whole path.
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
//! **Errors.** A layer never changes the error type: it asks that `S::Error` can be made from a
//! [`Rejected`] ([`FromRejected`]). A foreign error type is wrapped once, at the bottom of the
//! stack, in [`Error`]. At a server's edge `http::RespondLayer` answers instead.
//!
//! **Outcomes.** One [`Classify`] serves a whole stack. An overloaded dependency is told apart from
//! a failing one everywhere: a breaker must not count it, a retry must wait for it.
//!
//! **Time.** Everything follows tokio's clock, so `tokio::time::pause` drives it in your tests too.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod macros;

mod check;
mod classify;
mod clock;
pub mod context;
mod criticality;
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

/// The README's examples are tests too.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;
