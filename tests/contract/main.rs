//! What every layer promises, whatever it does: one suite, run over all of them.
//!
//! A layer joins with one line below and a function in `layers/` that says how its state is read.
#![cfg(feature = "http")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod accessors;
mod checks;
mod inner;
mod layers;
mod subject;

/// Runs all checks over each of these layers.
macro_rules! contract {
    ($($layer:ident::$mode:ident;)*) => {
        $(mod $mode { $crate::checks::checks!($crate::layers::$layer::$mode); })*
    };
}

contract! {
    guard::plain_guard;
    guard::guard_of_an_application;
    guard::guard_that_waits;
    guard::guard_to_the_end_of_the_body;
    guard::guard_answering;
}
#[cfg(feature = "timeout")]
contract! {
    timeout::timeout;
    timeout::timeout_http;
    timeout::deadline;
    timeout::deadline_http;
    timeout::deadline_header;
}
#[cfg(feature = "circuit-breaker")]
contract! {
    circuit_breaker::breaker;
    circuit_breaker::breaker_counting_calls;
    circuit_breaker::breaker_half_open;
    circuit_breaker::breaker_observing;
    circuit_breaker::breaker_unready_when_open;
    circuit_breaker::breaker_keyed;
    circuit_breaker::breaker_http;
    circuit_breaker::breaker_answering;
}
#[cfg(feature = "rate-limit")]
contract! {
    rate_limit::limiter;
    rate_limit::limiter_exact;
    rate_limit::limiter_gcra;
    rate_limit::limiter_keyed;
    rate_limit::limiter_keyed_gcra;
    rate_limit::limiter_waiting;
    rate_limit::limiter_keyed_waiting;
    rate_limit::limiter_waiting_http;
    rate_limit::limiter_http;
    rate_limit::limiter_answering;
}
#[cfg(feature = "load-shed")]
contract! {
    load_shed::shed_at_once;
    load_shed::shed_queued;
    load_shed::shed_by_backpressure;
    load_shed::shed_adaptive;
    load_shed::shed_adaptive_queued;
    load_shed::shed_with_priorities;
    load_shed::shed_http;
    load_shed::shed_answering;
}
#[cfg(feature = "throttle")]
contract! {
    throttle::throttle;
    throttle::throttle_http;
}
#[cfg(feature = "retry")]
contract! {
    retry::retry;
    retry::retry_http;
}
#[cfg(feature = "cache")]
contract! {
    cache::cache_cold;
    cache::cache_cold_http;
}
#[cfg(feature = "full")]
contract! {
    together::limiter_and_breaker;
    together::waiting_limiter_and_breaker;
    together::shed_and_breaker;
    together::queued_shed_and_breaker;
    together::all_four;
    together::all_four_answering;
}
