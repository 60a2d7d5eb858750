//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::Throttle;

#[test]
fn the_settings_of_a_throttle_that_is_told_nothing_more() {
    let settings = r#"ThrottleBuilder {
    name: "search",
    terms: ThrottleTerms {
        window: 1s,
        multiplier: 2.0,
        minimum_calls: 2,
        max_rejection: 0.8,
    },
    seed: None,
}"#;
    assert_eq!(format!("{:#?}", Throttle::builder("search")), settings);
}

#[test]
fn what_a_throttle_tells_that_has_seen_no_call() {
    let snapshot = r#"Snapshot {
    name: "search",
    calls: 0,
    accepted: 0,
    probability: 0.0,
    overloaded_total: 0,
    rejected_total: 0,
}"#;
    let throttle = Throttle::new("search");
    assert_eq!(format!("{:#?}", throttle.snapshot()), snapshot);
}
