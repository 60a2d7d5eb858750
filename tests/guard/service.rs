//! One guard that decides at once.

use crate::support::*;
use buttress::{ErrorsAsFailures, GuardLayer, Outcome, guard::End};
use tokio_test::{assert_ready, task::spawn};
use tower::{Layer, Service, ServiceExt};

const SUCCESS: End = End::Done(Outcome::Success);
const FAILURE: End = End::Done(Outcome::Failure);

#[tokio::test]
async fn a_call_is_admitted_once_and_settled_once_with_its_outcome() {
    let log = Log::default();
    let mut service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(Steps(log.clone()));
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
    // The call is over when its result is there, not when its future is dropped.
    assert_eq!(
        log.take(),
        [("a", Admit), ("a", Settle(SUCCESS)), ("call", Dropped)]
    );
    assert_eq!(service.ready().await.unwrap().call(0).await, Err(E::Boom));
    assert_eq!(
        log.take(),
        [("a", Admit), ("a", Settle(FAILURE)), ("call", Dropped)]
    );
}

#[tokio::test]
async fn a_refused_call_reaches_nobody_and_settles_nothing() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    spy.0.refuse(overloaded());
    let service = GuardLayer::new(spy)
        .classify(ErrorsAsFailures)
        .layer(Steps(log.clone()));
    assert_eq!(service.oneshot(1).await, Err(E::Rejected(overloaded())));
    assert_eq!(log.take(), [("a", Refuse)]);
}

#[test]
fn a_call_dropped_at_any_moment_ends_once() {
    for polls in 0..4 {
        let log = Log::default();
        let mut service = GuardLayer::new(Spy::new("a", &log))
            .classify(ErrorsAsFailures)
            .layer(Steps(log.clone()));
        let mut call = spawn(service.call(3));
        for poll in 0..polls {
            match poll {
                2 => assert_eq!(assert_ready!(call.poll()), Ok(3)),
                _ => assert!(call.poll().is_pending()),
            }
        }
        drop(call);
        let suspended = (polls > 0).then_some(("a", Suspend));
        let mut expected = vec![("a", Admit)];
        expected.extend(suspended);
        // What the inner call frees is free before anyone is let in for it.
        expected.extend(match polls {
            3 => [("a", Settle(SUCCESS)), ("call", Dropped)],
            _ => [("call", Dropped), ("a", Settle(End::Cancelled))],
        });
        assert_eq!(log.take(), expected, "after {polls} polls");
    }
}

#[tokio::test]
async fn the_guard_hears_once_of_a_call_that_takes_longer_and_never_of_one_that_does_not() {
    let log = Log::default();
    let service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(Steps(log.clone()));
    for (polls, times) in [(1, 0), (2, 1), (9, 1)] {
        assert_eq!(service.clone().oneshot(polls).await, Ok(polls));
        let told = log.take().iter().filter(|e| e.1 == Suspend).count();
        assert_eq!(told, times, "{polls} polls");
    }
}

#[tokio::test]
async fn the_classifier_decides_what_an_end_means_and_the_result_stays_as_it_is() {
    let log = Log::default();
    let classifier = |result: Result<&usize, &E>| match result {
        Ok(1) => Outcome::Failure,
        Ok(_) => Outcome::Overloaded { retry_after: None },
        Err(_) => Outcome::Ignored,
    };
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(classifier);
    let mut service = layer.layer(Steps(log.clone()));
    let ends = [
        (1, Ok(1), Outcome::Failure),
        (2, Ok(2), Outcome::Overloaded { retry_after: None }),
        (0, Err(E::Boom), Outcome::Ignored),
    ];
    for (req, result, outcome) in ends {
        assert_eq!(service.ready().await.unwrap().call(req).await, result);
        assert!(log.take().contains(&("a", Settle(End::Done(outcome)))));
    }
}

#[test]
fn services_and_futures_can_be_sent_to_other_threads() {
    fn send<T: Send>(_: &T) {}
    let log = Log::default();
    let mut service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(Steps(log));
    send(&service);
    send(&service.call(1));
}

#[tokio::test]
async fn what_a_layer_holds_is_dropped_with_the_last_of_its_services_and_calls() {
    let (holds, mut held) = tokio::sync::mpsc::channel::<()>(1);
    let classifier = move |result: Result<&usize, &E>| {
        assert!(!holds.is_closed());
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    };
    let log = Log::default();
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(classifier);
    let mut service = layer.layer(tower::service_fn(async |n: usize| Ok::<_, E>(n)));
    drop(layer);
    // On another thread, which may have a stripe of its own.
    let clone = service.clone();
    let elsewhere = std::thread::spawn(move || clone.clone());
    drop(elsewhere.join().unwrap());
    let call = service.call(1);
    drop(service);
    assert!(held.try_recv() == Err(tokio::sync::mpsc::error::TryRecvError::Empty));
    call.await.unwrap();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(60), held.recv());
    assert_eq!(closed.await, Ok(None));
}
