//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::{
    LoadShed,
    load_shed::limit::{Aimd, Gradient2, NextWindow, Vegas},
};

#[test]
fn the_settings_of_a_load_shed_that_is_told_nothing_more() {
    let settings = r#"LoadShedBuilder {
    name: "api",
    limit: Rule(
        Adaptive {
            initial: 20,
            min: 1,
            max: 10000,
            n: 20.0,
            parallelism: 0.0,
            unqueued: 0.0,
            phase: Watching,
            starting: true,
            too_low: true,
            variation: 1.0,
            saturated: 0.5,
            tries: Tries {
                began: Time(
                    0,
                ),
                ended: Time(
                    0,
                ),
                pause: 0ns,
                trust: 0.1,
                since_below: 0,
                patience: 1s,
                found: 0.0,
            },
            little: 0.0,
            usual: 0.0,
            least: inf,
            slow: 0,
        },
    ),
    long_lived: 10000,
    queue: 1000,
    wait: 100ms,
    overloaded_wait: 20ms,
    overloaded_after: 100ms,
    retry_after: 1ms,
    priority: Equal,
    ranked: false,
    seed: None,
}"#;
    assert_eq!(format!("{:#?}", LoadShed::builder("api")), settings);
}

#[test]
fn the_settings_of_the_other_limits() {
    let settings = r#"(
    Aimd {
        limit: 20.0,
        max: 1000.0,
        backoff: 0.9,
        timeout: None,
    },
    Vegas {
        limit: 20.0,
        max: 1000.0,
        least: 0.0,
        remaining: 0,
    },
    Gradient2 {
        limit: 20.0,
        min: 20.0,
        max: 200.0,
        long: 0.0,
        windows: 0,
    },
)"#;
    let limits = (Aimd::default(), Vegas::default(), Gradient2::default());
    assert_eq!(format!("{limits:#?}"), settings);
}

#[test]
fn the_settings_of_a_window_that_is_told_nothing_but_its_ends() {
    let settings = r#"NextWindow {
    ends: 50,
    latencies: 2.0,
    min: 100ms,
    max: 1s,
    short: 250ms,
    long: 250ms,
    long_lived: 1s,
}"#;
    assert_eq!(format!("{:#?}", NextWindow::after(50)), settings);
}

#[test]
fn what_a_load_shed_tells_that_has_seen_no_call() {
    let snapshot = r#"Snapshot {
    name: "api",
    limit: 20,
    in_flight: 0,
    long_lived: 0,
    queued: 0,
    admitted_total: 0,
    rejected_total: 0,
    expired_total: 0,
    deadline_exceeded_total: 0,
    shed_share: 0.0,
}"#;
    let shed = LoadShed::new("api");
    assert_eq!(format!("{:#?}", shed.snapshot()), snapshot);
}
