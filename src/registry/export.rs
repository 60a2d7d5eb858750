//! Which metrics a policy becomes.

use super::PolicySnapshot;
#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::State;
// Which of them is used depends on which layers there are.
#[allow(unused_imports)]
use metrics::{counter, gauge};

/// Hands one policy's counts to the recorder.
pub(super) fn publish(policy: &PolicySnapshot) {
    match *policy {
        #[cfg(feature = "cache")]
        PolicySnapshot::Cache(ref s) => {
            for (served, answers) in [
                ("fresh", s.fresh_total),
                ("revalidating", s.revalidating_total),
                ("if_error", s.if_error_total),
            ] {
                counter!("buttress_cache_hits_total", "policy" => s.name, "served" => served)
                    .absolute(answers);
            }
            counter!("buttress_cache_collapsed_total", "policy" => s.name)
                .absolute(s.collapsed_total);
            counter!("buttress_cache_bypassed_total", "policy" => s.name)
                .absolute(s.bypassed_total);
            counter!("buttress_cache_loads_total", "policy" => s.name).absolute(s.loads_total);
            counter!("buttress_cache_load_failures_total", "policy" => s.name)
                .absolute(s.load_failures_total);
            counter!("buttress_cache_refreshes_total", "policy" => s.name)
                .absolute(s.refreshes_total);
            counter!("buttress_cache_stored_total", "policy" => s.name).absolute(s.stored_total);
            counter!("buttress_cache_not_stored_total", "policy" => s.name)
                .absolute(s.not_stored_total);
            counter!("buttress_cache_store_failures_total", "policy" => s.name)
                .absolute(s.store_failures_total);
            gauge!("buttress_cache_store_up", "policy" => s.name)
                .set(f64::from(u8::from(s.store_up)));
            counter!("buttress_cache_invalidations_total", "policy" => s.name)
                .absolute(s.invalidations_total);
            counter!("buttress_cache_invalidations_pending_total", "policy" => s.name)
                .absolute(s.invalidations_pending_total);
            gauge!("buttress_cache_in_flight", "policy" => s.name).set(s.in_flight as f64);
        }
        #[cfg(feature = "circuit-breaker")]
        PolicySnapshot::CircuitBreaker(ref s) => {
            // One of the three is 1, always: a sum over policies counts breakers in that state.
            for (state, label) in STATES {
                gauge!("buttress_circuit_breaker_state", "policy" => s.name, "state" => label)
                    .set(f64::from(u8::from(s.state == state)));
            }
            calls(
                s.name,
                s.successes_total,
                s.failures_total,
                s.slow_calls_total,
            );
            counter!("buttress_circuit_breaker_trips_total", "policy" => s.name)
                .absolute(s.trips_total);
            rejected("circuit_breaker", s.name, s.rejected_total);
        }
        #[cfg(feature = "circuit-breaker")]
        PolicySnapshot::KeyedCircuitBreaker(ref s) => {
            let closed = s.keys.saturating_sub(s.open + s.half_open);
            for ((_, label), keys) in STATES.into_iter().zip([closed, s.open, s.half_open]) {
                gauge!("buttress_circuit_breaker_state", "policy" => s.name, "state" => label)
                    .set(keys as f64);
            }
            calls(
                s.name,
                s.successes_total,
                s.failures_total,
                s.slow_calls_total,
            );
            counter!("buttress_circuit_breaker_trips_total", "policy" => s.name)
                .absolute(s.trips_total);
            rejected("circuit_breaker", s.name, s.rejected_total);
        }
        #[cfg(feature = "load-shed")]
        PolicySnapshot::LoadShed(ref s) => {
            gauge!("buttress_load_shed_limit", "policy" => s.name).set(s.limit as f64);
            gauge!("buttress_load_shed_in_flight", "policy" => s.name).set(s.in_flight as f64);
            gauge!("buttress_load_shed_queued", "policy" => s.name).set(s.queued as f64);
            gauge!("buttress_load_shed_shed_share", "policy" => s.name).set(s.shed_share);
            counter!("buttress_load_shed_admitted_total", "policy" => s.name)
                .absolute(s.admitted_total);
            counter!("buttress_load_shed_expired_total", "policy" => s.name)
                .absolute(s.expired_total);
            counter!("buttress_load_shed_deadline_exceeded_total", "policy" => s.name)
                .absolute(s.deadline_exceeded_total);
            rejected("load_shed", s.name, s.rejected_total);
        }
        #[cfg(feature = "rate-limit")]
        PolicySnapshot::RateLimiter(ref s) => {
            counter!("buttress_rate_limiter_admitted_total", "policy" => s.name)
                .absolute(s.admitted_total);
            gauge!("buttress_rate_limiter_waiting", "policy" => s.name).set(s.waiting as f64);
            gauge!("buttress_rate_limiter_quota", "policy" => s.name).set(f64::from(s.quota));
            if let Some(remaining) = s.remaining {
                gauge!("buttress_rate_limiter_remaining", "policy" => s.name)
                    .set(f64::from(remaining));
            }
            if let Some(keys) = s.keys {
                gauge!("buttress_rate_limiter_keys", "policy" => s.name).set(keys as f64);
            }
            rejected("rate_limiter", s.name, s.rejected_total);
        }
        #[cfg(feature = "retry")]
        PolicySnapshot::Retry(ref s) => {
            counter!("buttress_retry_failed_attempts_total", "policy" => s.name)
                .absolute(s.failed_attempts_total);
            counter!("buttress_retry_retries_total", "policy" => s.name).absolute(s.retries_total);
            counter!("buttress_retry_budget_exhausted_total", "policy" => s.name)
                .absolute(s.budget_exhausted_total);
            counter!("buttress_retry_gave_up_total", "policy" => s.name).absolute(s.gave_up_total);
            gauge!("buttress_retry_budget_balance", "policy" => s.name).set(s.budget_balance);
        }
        #[cfg(feature = "throttle")]
        PolicySnapshot::Throttle(ref s) => {
            gauge!("buttress_throttle_probability", "policy" => s.name).set(s.probability);
            counter!("buttress_throttle_overloaded_total", "policy" => s.name)
                .absolute(s.overloaded_total);
            rejected("throttle", s.name, s.rejected_total);
        }
        #[cfg(feature = "timeout")]
        PolicySnapshot::Timeout(ref s) => {
            counter!("buttress_timeout_timed_out_total", "policy" => s.name)
                .absolute(s.timed_out_total);
            counter!("buttress_timeout_deadline_exceeded_total", "policy" => s.name)
                .absolute(s.deadline_exceeded_total);
        }
        PolicySnapshot::Custom(ref snapshot) => snapshot.publish(),
    }
}

#[cfg(feature = "circuit-breaker")]
const STATES: [(State, &str); 3] = [
    (State::Closed, "closed"),
    (State::Open, "open"),
    (State::HalfOpen, "half_open"),
];

#[cfg(feature = "circuit-breaker")]
fn calls(policy: &'static str, successes: u64, failures: u64, slow: u64) {
    for (outcome, calls) in [("success", successes), ("failure", failures)] {
        counter!("buttress_circuit_breaker_calls_total", "policy" => policy, "outcome" => outcome)
            .absolute(calls);
    }
    counter!("buttress_circuit_breaker_slow_calls_total", "policy" => policy).absolute(slow);
}

#[allow(dead_code)] // which layers reject calls depends on which are compiled in
fn rejected(kind: &'static str, policy: &'static str, rejected: u64) {
    counter!("buttress_rejected_total", "kind" => kind, "policy" => policy).absolute(rejected);
}
