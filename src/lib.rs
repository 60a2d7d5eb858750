//! Tower layers that keep a service answering when what it depends on is slow, failing,
//! overloaded or gone.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod classify;
mod clock;
pub mod context;
mod error;
pub mod guard;
#[cfg(any(feature = "circuit-breaker", feature = "rate-limit"))]
mod key;
// Which layers use them depends on which are compiled in.
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod rng;
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod shared;

#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "timeout")]
pub mod timeout;

pub use classify::{Classify, ErrorsAsFailures, Outcome};
pub use clock::{Now, Time};
pub use error::{AsRejected, Error, FromRejected, InvalidConfig, Kind, Name, Rejected};
pub use guard::{Guard, GuardLayer, Policy, WaitLayer};
#[cfg(any(feature = "circuit-breaker", feature = "rate-limit"))]
pub use key::{Global, Key};

#[cfg(feature = "circuit-breaker")]
pub use circuit_breaker::CircuitBreaker;
#[cfg(feature = "rate-limit")]
pub use rate_limit::RateLimiter;
#[cfg(feature = "retry")]
pub use retry::Retry;
#[cfg(feature = "timeout")]
pub use timeout::Timeout;
