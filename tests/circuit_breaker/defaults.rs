//! Every default as text, so that whoever reviews a change sees which one it changes.
//!
//! What a builder leaves open (`minimum_calls`, `max_open_for`) is tested beside its configuration.

use buttress::CircuitBreaker;

#[test]
fn the_settings_of_a_breaker_that_is_told_nothing_more() {
    let settings = r#"CircuitBreakerBuilder {
    name: "db",
    window: 10s,
    count_window: None,
    failure_rate: Some(
        0.5,
    ),
    consecutive_failures: Some(
        5,
    ),
    consecutive_failures_within: 60s,
    slow_call_rate: None,
    minimum_calls: None,
    slow_call_duration: 250ms,
    abandoned: Silence,
    max_retry_after: None,
    overload_pause: None,
    open_for: 5s,
    max_open_for: None,
    open_growth: 2.0,
    open_jitter: 0.2,
    probes: 1,
    probe_success_ratio: 1.0,
    probe_timeout: 10s,
    ramp: None,
    observe_only: false,
    seed: None,
}"#;
    assert_eq!(format!("{:#?}", CircuitBreaker::builder("db")), settings);
}

#[test]
fn the_settings_of_keyed_breakers_that_are_told_nothing_more() {
    let builder = CircuitBreaker::builder("db").keyed("a key");
    let settings = r#"KeyedCircuitBreakerBuilder {
    each: CircuitBreakerBuilder {
        name: "db",
        window: 10s,
        count_window: None,
        failure_rate: Some(
            0.5,
        ),
        consecutive_failures: Some(
            5,
        ),
        consecutive_failures_within: 60s,
        slow_call_rate: None,
        minimum_calls: None,
        slow_call_duration: 250ms,
        abandoned: Silence,
        max_retry_after: None,
        overload_pause: None,
        open_for: 5s,
        max_open_for: None,
        open_growth: 2.0,
        open_jitter: 0.2,
        probes: 1,
        probe_success_ratio: 1.0,
        probe_timeout: 10s,
        ramp: None,
        observe_only: false,
        seed: None,
    },
    key: "a key",
    max_keys: 10000,
}"#;
    assert_eq!(format!("{builder:#?}"), settings);
}

#[test]
fn what_a_breaker_tells_that_has_seen_no_call() {
    let snapshot = r#"Snapshot {
    name: "db",
    state: Closed,
    mode: Automatic,
    calls: 0,
    failures: 0,
    slow_calls: 0,
    consecutive_failures: 0,
    in_flight_slow: 0,
    admitted_share: 1.0,
    retry_after: None,
    rejected_total: 0,
    would_reject_total: 0,
    successes_total: 0,
    failures_total: 0,
    slow_calls_total: 0,
    trips_total: 0,
}"#;
    let breaker = CircuitBreaker::new("db");
    assert_eq!(format!("{:#?}", breaker.snapshot()), snapshot);
}

#[test]
fn what_keyed_breakers_tell_that_have_seen_no_call() {
    let snapshot = r#"KeyedSnapshot {
    name: "db",
    keys: 0,
    open: 0,
    half_open: 0,
    evicted_total: 0,
    evicted_open_total: 0,
    rejected_total: 0,
    would_reject_total: 0,
    successes_total: 0,
    failures_total: 0,
    slow_calls_total: 0,
    trips_total: 0,
}"#;
    let builder = CircuitBreaker::builder("db").keyed(|key: &u8| *key);
    let breakers = builder.build().unwrap();
    assert_eq!(format!("{:#?}", breakers.snapshot()), snapshot);
}
