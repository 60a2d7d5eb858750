//! The layers under test, by kind. Each function makes a fresh policy.

#[cfg(feature = "cache")]
pub(crate) mod cache;
#[cfg(feature = "circuit-breaker")]
pub(crate) mod circuit_breaker;
pub(crate) mod guard;
#[cfg(feature = "load-shed")]
pub(crate) mod load_shed;
#[cfg(feature = "rate-limit")]
pub(crate) mod rate_limit;
#[cfg(feature = "retry")]
pub(crate) mod retry;
#[cfg(feature = "throttle")]
pub(crate) mod throttle;
#[cfg(feature = "timeout")]
pub(crate) mod timeout;
#[cfg(feature = "full")]
pub(crate) mod together;
