//! A panic of the application's code is an end of its own.

use crate::support::*;
use buttress::{ErrorsAsFailures, GuardLayer, Outcome, RateLimiter, guard::End};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio_test::{assert_pending, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};

const PANICKED: [(&str, Event); 2] = [("a", Admit), ("a", Settle(End::Panicked))];

fn panics<T>(f: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
}

#[test]
fn in_the_call_of_the_service() {
    let log = Log::default();
    let inner = service_fn(|_: usize| -> std::future::Ready<Result<usize, E>> { panic!("call") });
    let mut service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(inner);
    panics(|| service.call(1));
    assert_eq!(log.take(), PANICKED);
}

#[tokio::test]
async fn in_the_poll_of_the_service() {
    let log = Log::default();
    let inner = service_fn(async |_: usize| -> Result<usize, E> { panic!("poll") });
    let service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert!(tokio::spawn(service.oneshot(1)).await.is_err());
    assert_eq!(log.take(), PANICKED);
}

#[test]
fn in_the_classifier() {
    let log = Log::default();
    let classifier = |_: Result<&usize, &E>| -> Outcome { panic!("classifier") };
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(classifier);
    let mut call = spawn(layer.layer(Steps(Log::default())).call(1));
    panics(|| call.poll());
    drop(call);
    assert_eq!(log.take(), PANICKED);
}

#[test]
fn in_the_key_of_another_guard_it_is_no_call_and_gives_back_the_permit_that_was_there() {
    let quota = || RateLimiter::builder("keyed", 10, Duration::from_secs(1));
    let keyed = quota().keyed(|_: &usize| -> u64 { panic!("key") });
    let keyed = keyed.build().unwrap();
    let never_started = ("a", Settle(End::NeverStarted));
    let log = Log::default();
    let both = GuardLayer::new((Spy::new("a", &log), keyed)).classify(ErrorsAsFailures);
    panics(|| both.layer(Steps(log.clone())).call(1));
    assert_eq!(log.take(), [("a", Admit), never_started]);
}

#[test]
fn elsewhere_it_is_only_a_cancelled_call() {
    let log = Log::default();
    let mut service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    panics(|| {
        let mut call = spawn(service.call(2));
        assert_pending!(call.poll());
        panic!("the caller's own");
    });
    let cancelled = ("a", Settle(End::Cancelled));
    assert_eq!(log.take(), [("a", Admit), ("a", Suspend), cancelled]);
}
