//! Every default as text, so that whoever reviews a change sees which one it changes. Here there are
//! none but the counts: limits are the application's.

use buttress::{Timeout, timeout::DeadlineLayer};
use std::time::Duration;

#[test]
fn what_a_timeout_tells_that_has_seen_no_call() {
    let snapshot = r#"Snapshot {
    name: "api",
    limit: 2s,
    timed_out_total: 0,
    deadline_exceeded_total: 0,
}"#;
    let timeout = Timeout::new("api", Duration::from_secs(2));
    assert_eq!(format!("{:#?}", timeout.snapshot()), snapshot);
}

#[test]
fn what_a_deadline_layer_tells_that_has_seen_no_call() {
    let snapshot = r#"DeadlineSnapshot {
    name: "api",
    within: 2s,
    exceeded_total: 0,
}"#;
    let layer = DeadlineLayer::within("api", Duration::from_secs(2));
    assert_eq!(format!("{:#?}", layer.snapshot()), snapshot);
}
