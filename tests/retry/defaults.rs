//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::{Retry, retry::Budget};

#[test]
fn the_settings_of_a_retry_that_is_told_nothing_more() {
    let settings = r#"RetryBuilder {
    name: "orders",
    attempts: 3,
    backoff: Exponential {
        initial: 100ms,
        multiplier: 2.0,
        max: 5s,
        jitter: Full,
    },
    budget: None,
    max_wait: 5s,
    seed: None,
}"#;
    assert_eq!(format!("{:#?}", Retry::builder("orders")), settings);
}

#[test]
fn the_settings_of_a_budget_that_is_told_nothing_more() {
    let settings = r#"BudgetBuilder {
    ratio: 0.1,
    cap: 10,
    free_per_second: 1.0,
    free_cap: 3,
    stop_after: 2,
    unlimited: false,
}"#;
    assert_eq!(format!("{:#?}", Budget::builder()), settings);
}

#[test]
fn what_a_retry_tells_that_has_seen_no_call() {
    let snapshot = r#"Snapshot {
    name: "orders",
    failed_attempts_total: 0,
    retries_total: 0,
    budget_exhausted_total: 0,
    gave_up_total: 0,
    budget_balance: 10.0,
}"#;
    let retry = Retry::new("orders");
    assert_eq!(format!("{:#?}", retry.snapshot()), snapshot);
}
