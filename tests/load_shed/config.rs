use crate::support::*;
use buttress::{
    ErrorsAsFailures, InvalidConfig, LoadShed,
    load_shed::{
        LoadShedBuilder,
        limit::{Adaptive, Fixed, Limit},
    },
};
use std::time::Duration;
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::{Layer, Service};

fn refused(set: impl Fn(LoadShedBuilder) -> LoadShedBuilder) -> Option<&'static str> {
    let built = set(LoadShed::builder("api")).build();
    built.err().map(|error: InvalidConfig| error.field())
}

#[test]
fn what_cannot_work_is_refused_and_says_which_field() {
    assert_eq!(refused(|b| b.fixed(0)), Some("limit"));
    assert_eq!(refused(|b| b.fixed(usize::MAX)), Some("limit"));
    assert_eq!(refused(|b| b.limit(Fixed(0))), Some("limit"));
    assert_eq!(refused(|b| b.queue(0)), Some("queue"));
    assert_eq!(refused(|b| b.queue(usize::MAX)), Some("queue"));
    for time in [Duration::ZERO, Duration::MAX] {
        assert_eq!(refused(|b| b.wait(time)), Some("wait"));
        assert_eq!(
            refused(|b| b.overloaded_wait(time)),
            Some("overloaded_wait")
        );
        assert_eq!(
            refused(|b| b.overloaded_after(time)),
            Some("overloaded_after")
        );
        assert_eq!(refused(|b| b.retry_after(time)), Some("retry_after"));
    }
}

#[test]
fn the_bounds_themselves_are_accepted() {
    assert_eq!(refused(|b| b.fixed(1).queue(1)), None);
    assert_eq!(refused(|b| b.fixed(1_000_000).queue(1_000_000)), None);
    let shortest = Duration::from_nanos(1);
    assert_eq!(refused(|b| b.wait(shortest).retry_after(shortest)), None);
}

#[test]
fn a_rule_that_never_changes_is_a_fixed_limit() {
    let shed = LoadShed::builder("api").limit(Fixed(7)).build().unwrap();
    assert_eq!(shed.snapshot().limit, 7);
}

#[test]
fn the_defaults_need_no_result() {
    let shed = LoadShed::new("api");
    let snapshot = shed.snapshot();
    assert_eq!((shed.name(), snapshot.in_flight), ("api", 0));
    assert_eq!(snapshot.limit, Adaptive::default().initial());
    assert!(format!("{shed:?} {:?} {:?}", shed.queued(), shed.backpressure()).contains("api"));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_limit_is_changed_while_calls_run_and_wait() {
    let shed = LoadShed::builder("api").fixed(1).build().unwrap();
    let inner = Manual::default();
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut calls: Vec<_> = (0..4).map(|n| spawn(service.call(n))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(inner.running(), [0]);
    // Those who wait are let in at once.
    shed.set_limit(3).unwrap();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(inner.running(), [0, 1, 2]);
    // Calls that run are left to end first.
    shed.set_limit(2).unwrap();
    assert_eq!(shed.snapshot().in_flight, 3);
    inner.end();
    assert_ready!(calls[0].poll()).unwrap();
    assert_pending!(calls[3].poll());
    assert_eq!(inner.running(), [1, 2]);
    inner.end();
    assert_ready!(calls[1].poll()).unwrap();
    assert_pending!(calls[3].poll());
    assert_eq!(inner.running(), [2, 3]);
    drop(calls);
    assert_at_rest(&shed);
    for bad in [0, 1_000_001] {
        let invalid = shed.set_limit(bad).unwrap_err();
        assert_eq!((invalid.field(), invalid.name()), ("limit", Some("api")));
    }
    // What a rule finds it would change back.
    assert!(LoadShed::new("found").set_limit(5).is_err());
}
