//! What cannot be built.

use super::*;

fn refused_field(builder: CircuitBreakerBuilder) -> &'static str {
    builder.build().expect_err("accepted").field()
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    type Set<T> = fn(CircuitBreakerBuilder, T) -> CircuitBreakerBuilder;
    let shares: [(&str, Set<f64>); 3] = [
        ("failure_rate", CircuitBreakerBuilder::failure_rate),
        ("slow_call_rate", CircuitBreakerBuilder::slow_call_rate),
        (
            "probe_success_ratio",
            CircuitBreakerBuilder::probe_success_ratio,
        ),
    ];
    for (field, set) in shares {
        for bad in [
            0.0,
            -0.1,
            1.0 + 1e-9,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert_eq!(refused_field(set(plain(), bad)), field, "{bad}");
        }
        assert!(set(plain(), f64::MIN_POSITIVE).build().is_ok());
        assert!(set(plain(), 1.0).build().is_ok());
    }
    for bad in [0.99, -2.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused_field(plain().open_growth(bad)), "open_growth");
    }
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused_field(plain().open_jitter(bad)), "open_jitter");
    }
    let times: [(&str, Set<Duration>, Duration); 8] = [
        ("window", CircuitBreakerBuilder::window, 10 * MILLI),
        ("ramp", CircuitBreakerBuilder::ramp, 10 * MILLI),
        (
            "slow_call_duration",
            CircuitBreakerBuilder::slow_call_duration,
            MILLI,
        ),
        (
            "consecutive_failures_within",
            CircuitBreakerBuilder::consecutive_failures_within,
            MILLI,
        ),
        (
            "abandoned_after",
            CircuitBreakerBuilder::abandoned_after,
            MILLI,
        ),
        (
            "open_when_overloaded",
            CircuitBreakerBuilder::open_when_overloaded,
            MILLI,
        ),
        ("open_for", CircuitBreakerBuilder::open_for, MILLI),
        ("probe_timeout", CircuitBreakerBuilder::probe_timeout, MILLI),
    ];
    for (field, set, least) in times {
        for bad in [Duration::ZERO, least - Duration::from_nanos(1)] {
            assert_eq!(refused_field(set(plain(), bad)), field);
        }
        assert!(set(plain(), least).build().is_ok());
        let breaker = set(plain(), Duration::MAX).build().unwrap();
        (0..15).for_each(|n| call(&breaker, if n % 2 == 0 { WELL } else { UNWELL }));
    }
    for bad in [0, 1_001, u32::MAX] {
        assert_eq!(refused_field(plain().probes(bad)), "probes");
    }
    for bad in [0, 1_000_001, usize::MAX] {
        assert_eq!(refused_field(plain().count_window(bad)), "count_window");
    }
    assert_eq!(
        refused_field(plain().consecutive_failures(0)),
        "consecutive_failures"
    );
    assert_eq!(refused_field(plain().minimum_calls(0)), "minimum_calls");
    assert_eq!(
        refused_field(plain().max_open_for(4 * SECOND)),
        "max_open_for"
    );
    let none = plain()
        .without_failure_rate()
        .without_consecutive_failures();
    assert_eq!(refused_field(none), "rules");
    for bad in [0, usize::MAX] {
        let keyed = plain().keyed(|key: &u32| *key).max_keys(bad);
        assert_eq!(keyed.build().expect_err("accepted").field(), "max_keys");
    }
}

#[test]
fn a_minimum_that_a_window_of_calls_can_never_hold_is_refused_not_overridden() {
    assert_eq!(
        refused_field(plain().count_window(10).minimum_calls(11)),
        "minimum_calls"
    );
    assert!(plain().count_window(10).minimum_calls(10).build().is_ok());
    assert!(
        plain().count_window(10).build().is_ok(),
        "nobody asked for 20"
    );
}

#[test]
fn the_largest_of_everything_runs() {
    let builder = plain()
        .minimum_calls(u32::MAX)
        .consecutive_failures(u32::MAX);
    let builder = builder.probes(1_000).count_window(1_000_000);
    assert_eq!(refused_field(builder.clone()), "minimum_calls");
    let breaker = builder.minimum_calls(1_000_000).build().unwrap();
    (0..100).for_each(|_| call(&breaker, UNWELL));
}

#[test]
fn the_defaults_can_be_built_and_an_open_time_above_the_default_cap_raises_it() {
    assert!(CircuitBreaker::builder("db").build().is_ok());
    assert!(plain().open_for(3_600 * SECOND).build().is_ok());
}
