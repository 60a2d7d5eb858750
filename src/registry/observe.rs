//! What a policy has to tell.

use super::CustomSnapshot;
#[cfg(feature = "cache")]
use crate::cache::{self, Cache, Store};
#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::{self, CircuitBreaker, KeyedCircuitBreaker};
use crate::guard::{self, Shadow};
#[cfg(all(feature = "http", feature = "timeout"))]
use crate::http::DeadlineHeaderLayer;
#[cfg(feature = "load-shed")]
use crate::load_shed::{self, LoadShed};
#[cfg(feature = "rate-limit")]
use crate::rate_limit::{self, RateLimiter};
#[cfg(feature = "retry")]
use crate::retry::{self, Retry};
#[cfg(feature = "throttle")]
use crate::throttle::{self, Throttle};
#[cfg(feature = "timeout")]
use crate::timeout::{self, DeadlineLayer, Timeout};

/// A policy that can be listed in a [`Registry`](super::Registry).
///
/// All policies of this crate implement this. For one of your own, return a [`CustomSnapshot`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be listed in a registry",
    note = "the handles of policies can, and not their layers or builders: `registry.add(&breaker)`",
    note = "for a policy of your own, implement `Observe` with a `CustomSnapshot`"
)]
pub trait Observe: Send + Sync + 'static {
    /// Returns the name of the policy, such as `orders-db`.
    fn name(&self) -> &'static str;
    /// Returns what kind of policy it is, in snake case, such as `circuit_breaker`.
    fn kind(&self) -> &'static str;
    /// Returns a snapshot of the policy. May take the policy's own locks.
    fn snapshot(&self) -> PolicySnapshot;
}

/// The snapshot of a policy of any kind.
///
/// Serialised, it is a flat map with the entries `kind` and `name` first.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PolicySnapshot {
    /// A cache.
    #[cfg(feature = "cache")]
    Cache(cache::Snapshot),
    /// A circuit breaker.
    #[cfg(feature = "circuit-breaker")]
    CircuitBreaker(circuit_breaker::Snapshot),
    /// A circuit breaker for each key.
    #[cfg(feature = "circuit-breaker")]
    KeyedCircuitBreaker(circuit_breaker::KeyedSnapshot),
    /// A deadline layer.
    #[cfg(feature = "timeout")]
    Deadline(timeout::DeadlineSnapshot),
    /// A load shed.
    #[cfg(feature = "load-shed")]
    LoadShed(load_shed::Snapshot),
    /// A rate limiter.
    #[cfg(feature = "rate-limit")]
    RateLimiter(rate_limit::Snapshot),
    /// A retry.
    #[cfg(feature = "retry")]
    Retry(retry::Snapshot),
    /// A guard that is observed and not obeyed.
    Shadow(guard::ShadowSnapshot),
    /// A throttle.
    #[cfg(feature = "throttle")]
    Throttle(throttle::Snapshot),
    /// A timeout.
    #[cfg(feature = "timeout")]
    Timeout(timeout::Snapshot),
    /// A policy of your own.
    #[serde(untagged)]
    Custom(CustomSnapshot),
}

macro_rules! observe {
    ([$($param:ident),*] $policy:ty, $kind:literal, $variant:ident) => {
        impl<$($param: Send + Sync + 'static),*> Observe for $policy {
            fn name(&self) -> &'static str {
                self.name()
            }
            fn kind(&self) -> &'static str {
                $kind
            }
            fn snapshot(&self) -> PolicySnapshot {
                PolicySnapshot::$variant(self.snapshot())
            }
        }
    };
}

#[cfg(feature = "cache")]
impl<V, St> Observe for Cache<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn name(&self) -> &'static str {
        self.name()
    }
    fn kind(&self) -> &'static str {
        "cache"
    }
    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Cache(self.snapshot())
    }
}
#[cfg(feature = "circuit-breaker")]
observe!([] CircuitBreaker, "circuit_breaker", CircuitBreaker);
#[cfg(feature = "circuit-breaker")]
observe!([K] KeyedCircuitBreaker<K>, "keyed_circuit_breaker", KeyedCircuitBreaker);
#[cfg(feature = "timeout")]
observe!([] DeadlineLayer, "deadline", Deadline);
#[cfg(all(feature = "http", feature = "timeout"))]
observe!([] DeadlineHeaderLayer, "deadline", Deadline);
#[cfg(feature = "load-shed")]
observe!([P] LoadShed<P>, "load_shed", LoadShed);
#[cfg(feature = "rate-limit")]
observe!([K, C, Q] RateLimiter<K, C, Q>, "rate_limiter", RateLimiter);
#[cfg(feature = "retry")]
observe!([] Retry, "retry", Retry);
observe!([G] Shadow<G>, "shadow", Shadow);
#[cfg(feature = "throttle")]
observe!([] Throttle, "throttle", Throttle);
#[cfg(feature = "timeout")]
observe!([] Timeout, "timeout", Timeout);
