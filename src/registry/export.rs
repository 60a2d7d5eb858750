//! Which metrics a policy becomes, and what the recorder is told of each.

use super::PolicySnapshot;
#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::State;
// Which of them is used depends on which layers there are.
#[allow(unused_imports)]
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Tells how often something has happened since the start.
#[allow(unused_macros)]
macro_rules! count {
    ($name:literal, $help:literal, $value:expr, $($labels:tt)*) => {
        describe_counter!($name, $help);
        counter!($name, $($labels)*).absolute($value);
    };
}

/// Tells how much of something there is.
#[allow(unused_macros)]
macro_rules! level {
    ($name:literal, $help:literal, $value:expr, $($labels:tt)*) => {
        describe_gauge!($name, $help);
        gauge!($name, $($labels)*).set($value);
    };
}

/// Tells what breakers count, one and those of keys alike.
#[cfg(feature = "circuit-breaker")]
macro_rules! breaker {
    ($s:ident) => {
        for (outcome, calls) in [
            ("success", $s.successes_total),
            ("failure", $s.failures_total),
        ] {
            count!(
                "buttress_circuit_breaker_calls_total",
                "Calls that succeeded, and calls that failed",
                calls, "policy" => $s.name, "outcome" => outcome
            );
        }
        count!(
            "buttress_circuit_breaker_slow_calls_total", "Calls that were slow",
            $s.slow_calls_total, "policy" => $s.name
        );
        count!(
            "buttress_circuit_breaker_trips_total",
            "How often a circuit has opened by itself, after failed probes too",
            $s.trips_total, "policy" => $s.name
        );
        count!(
            "buttress_circuit_breaker_would_reject_total",
            "Calls that an observing breaker let in and would have rejected",
            $s.would_reject_total, "policy" => $s.name
        );
        rejected("circuit_breaker", $s.name, $s.rejected_total);
    };
}

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
                count!(
                    "buttress_cache_hits_total",
                    "Calls answered from the store, and whether that was fresh or why not",
                    answers, "policy" => s.name, "served" => served
                );
            }
            count!("buttress_cache_collapsed_total", "Calls that shared another call's load", s.collapsed_total, "policy" => s.name);
            count!("buttress_cache_bypassed_total", "Calls whose requests are not for a cache", s.bypassed_total, "policy" => s.name);
            count!("buttress_cache_loads_total", "Loads, those in the background included", s.loads_total, "policy" => s.name);
            count!("buttress_cache_load_failures_total", "Loads that failed", s.load_failures_total, "policy" => s.name);
            count!("buttress_cache_refreshes_total", "Loads in the background: of what was stale, or soon would be", s.refreshes_total, "policy" => s.name);
            count!("buttress_cache_stored_total", "Answers that were stored", s.stored_total, "policy" => s.name);
            count!("buttress_cache_not_stored_total", "Answers that were not stored", s.not_stored_total, "policy" => s.name);
            count!("buttress_cache_store_failures_total", "Questions that the store did not answer, or not in time", s.store_failures_total, "policy" => s.name);
            level!(
                "buttress_cache_store_up",
                "1 while the store's breaker is closed, else 0",
                f64::from(u8::from(s.store_up)), "policy" => s.name
            );
            count!("buttress_cache_invalidations_total", "Invalidations of keys and tags", s.invalidations_total, "policy" => s.name);
            count!("buttress_cache_invalidations_pending_total", "Invalidations that did not reach the store", s.invalidations_pending_total, "policy" => s.name);
            level!("buttress_cache_in_flight", "Loads under way that others may share", s.in_flight as f64, "policy" => s.name);
        }
        #[cfg(feature = "circuit-breaker")]
        PolicySnapshot::CircuitBreaker(ref s) => {
            // One of the three is 1, always: a sum over policies counts breakers in that state.
            for (state, label) in STATES {
                circuits(s.name, label, f64::from(u8::from(s.state == state)));
            }
            breaker!(s);
        }
        #[cfg(feature = "circuit-breaker")]
        PolicySnapshot::KeyedCircuitBreaker(ref s) => {
            let closed = s.keys.saturating_sub(s.open + s.half_open);
            for ((_, label), keys) in STATES.into_iter().zip([closed, s.open, s.half_open]) {
                circuits(s.name, label, keys as f64);
            }
            breaker!(s);
            count!("buttress_circuit_breaker_evicted_total", "Keys evicted to make room for others", s.evicted_total, "policy" => s.name);
            count!("buttress_circuit_breaker_evicted_open_total", "Keys evicted while their circuit was not closed", s.evicted_open_total, "policy" => s.name);
        }
        #[cfg(feature = "timeout")]
        PolicySnapshot::Deadline(ref s) => {
            count!("buttress_deadline_exceeded_total", "Calls that were not over by their deadline", s.exceeded_total, "policy" => s.name);
        }
        #[cfg(feature = "load-shed")]
        PolicySnapshot::LoadShed(ref s) => {
            level!("buttress_load_shed_limit", "How many calls may be in flight", s.limit as f64, "policy" => s.name);
            level!("buttress_load_shed_in_flight", "Calls in flight", s.in_flight as f64, "policy" => s.name);
            level!("buttress_load_shed_long_lived", "Calls in flight that are long-lived, such as streams: the limit stands beside them", s.long_lived as f64, "policy" => s.name);
            level!("buttress_load_shed_queued", "Calls that wait in the queue", s.queued as f64, "policy" => s.name);
            level!("buttress_load_shed_shed_share", "Share of the arrivals that are refused for being less important than others", s.shed_share, "policy" => s.name);
            count!("buttress_load_shed_admitted_total", "Calls that were let in", s.admitted_total, "policy" => s.name);
            count!("buttress_load_shed_expired_total", "Calls that waited for as long as they may, in vain", s.expired_total, "policy" => s.name);
            count!("buttress_load_shed_deadline_exceeded_total", "Calls whose caller's deadline passed before their turn came", s.deadline_exceeded_total, "policy" => s.name);
            rejected("load_shed", s.name, s.rejected_total);
        }
        #[cfg(feature = "rate-limit")]
        PolicySnapshot::RateLimiter(ref s) => {
            count!("buttress_rate_limiter_admitted_total", "Cost admitted", s.admitted_total, "policy" => s.name);
            count!("buttress_rate_limiter_exempt_total", "Calls of cost 0", s.exempt_total, "policy" => s.name);
            level!("buttress_rate_limiter_waiting", "Calls that are waiting for their turn", s.waiting as f64, "policy" => s.name);
            level!("buttress_rate_limiter_quota", "Cost that one window admits", f64::from(s.quota), "policy" => s.name);
            if let Some(remaining) = s.remaining {
                level!(
                    "buttress_rate_limiter_remaining", "Cost that would be admitted now",
                    f64::from(remaining), "policy" => s.name
                );
            }
            if let Some(keys) = s.keys {
                level!("buttress_rate_limiter_keys", "Keys that are kept", keys as f64, "policy" => s.name);
            }
            if let Some(overflowed) = s.overflowed_total {
                count!("buttress_rate_limiter_overflowed_total", "Calls for new keys that found no place", overflowed, "policy" => s.name);
            }
            rejected("rate_limiter", s.name, s.rejected_total);
        }
        #[cfg(feature = "retry")]
        PolicySnapshot::Retry(ref s) => {
            count!("buttress_retry_failed_attempts_total", "Attempts that failed", s.failed_attempts_total, "policy" => s.name);
            count!("buttress_retry_retries_total", "Attempts made after the first of their call", s.retries_total, "policy" => s.name);
            count!("buttress_retry_budget_exhausted_total", "Failures handed to the caller because the budget was empty", s.budget_exhausted_total, "policy" => s.name);
            count!("buttress_retry_gave_up_total", "Failures handed to the caller because nothing was left to try", s.gave_up_total, "policy" => s.name);
            level!("buttress_retry_budget_balance", "Retries that the budget would pay for now", s.budget_balance, "policy" => s.name);
        }
        PolicySnapshot::Shadow(ref s) => {
            count!("buttress_shadow_admitted_total", "Calls that the observed guard admitted", s.admitted_total, "policy" => s.name);
            count!("buttress_shadow_would_reject_total", "Calls let in that the observed guard would have refused", s.would_reject_total, "policy" => s.name);
            count!("buttress_shadow_would_wait_total", "Calls let in that the observed guard would have made wait", s.would_wait_total, "policy" => s.name);
        }
        #[cfg(feature = "throttle")]
        PolicySnapshot::Throttle(ref s) => {
            level!("buttress_throttle_probability", "Share of the calls that is held back now", s.probability, "policy" => s.name);
            count!("buttress_throttle_overloaded_total", "Calls that the service refused", s.overloaded_total, "policy" => s.name);
            rejected("throttle", s.name, s.rejected_total);
        }
        #[cfg(feature = "timeout")]
        PolicySnapshot::Timeout(ref s) => {
            count!("buttress_timeout_timed_out_total", "Attempts that took longer than the timeout", s.timed_out_total, "policy" => s.name);
            count!("buttress_timeout_deadline_exceeded_total", "Attempts whose caller's deadline came first", s.deadline_exceeded_total, "policy" => s.name);
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
fn circuits(policy: &'static str, state: &'static str, number: f64) {
    level!(
        "buttress_circuit_breaker_state",
        "Circuits in each state",
        number, "policy" => policy, "state" => state
    );
}

#[allow(dead_code)] // which layers reject calls depends on which are compiled in
fn rejected(kind: &'static str, policy: &'static str, rejected: u64) {
    count!(
        "buttress_rejected_total",
        "Calls rejected",
        rejected, "kind" => kind, "policy" => policy
    );
}
