//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::RateLimiter;
use std::time::Duration;

#[test]
fn the_settings_of_a_limiter_that_is_told_nothing_more() {
    let builder = RateLimiter::builder("api", 100, Duration::from_secs(60));
    let settings = r#"RateLimiterBuilder {
    name: "api",
    quota: 100,
    window: 60s,
    algorithm: SlidingWindow,
    max_keys: 1000000,
    key_overflow: ShareSmallest,
    keyed: false,
    keyed_by: Global,
    cost: UnitCost,
    more_windows: [],
    varies: false,
    quota_by: FixedQuota,
}"#;
    assert_eq!(format!("{builder:#?}"), settings);
}

#[test]
fn what_a_limiter_tells_that_has_seen_no_call() {
    let limiter = RateLimiter::new("api", 100, Duration::from_secs(60)).unwrap();
    let snapshot = r#"Snapshot {
    name: "api",
    quota: 100,
    window: 60s,
    admitted_total: 0,
    rejected_total: 0,
    exempt_total: 0,
    waiting: 0,
    remaining: Some(
        100,
    ),
    keys: None,
    overflowed_total: None,
}"#;
    assert_eq!(format!("{:#?}", limiter.snapshot()), snapshot);
}
