//! A guard around a closure.

use crate::support::*;
use buttress::{
    ErrorsAsFailures, GuardLayer, Outcome,
    guard::{End, run},
};
use tokio::task::yield_now;
use tokio_test::{assert_pending, assert_ready_eq, task::spawn};
use tower::{Layer, ServiceExt};

const FAILURE: End = End::Done(Outcome::Failure);

#[tokio::test]
async fn an_operation_is_settled_by_its_result() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    assert_eq!(run(&spy, &(), async || Ok::<_, E>(1)).await, Ok(1));
    let success = End::Done(Outcome::Success);
    assert_eq!(log.take(), [("a", Admit), ("a", Settle(success))]);
    let failed = run(&spy, &(), async || {
        yield_now().await;
        yield_now().await;
        Err::<(), _>(E::Boom)
    });
    assert_eq!(failed.await, Err(E::Boom));
    assert_eq!(
        log.take(),
        [("a", Admit), ("a", Suspend), ("a", Settle(FAILURE))]
    );
}

#[tokio::test]
async fn a_refused_operation_is_not_begun() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    spy.0.refuse(overloaded());
    let refused = run(&spy, &(), async || -> Result<(), E> { panic!("begun") });
    assert_eq!(refused.await, Err(E::Rejected(overloaded())));
}

#[test]
fn a_dropped_operation_is_cancelled() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    {
        let mut running = spawn(run(&spy, &(), async || {
            yield_now().await;
            Ok::<_, E>(())
        }));
        assert_pending!(running.poll());
    }
    let cancelled = ("a", Settle(End::Cancelled));
    assert_eq!(log.take(), [("a", Admit), ("a", Suspend), cancelled]);
}

#[tokio::test]
async fn a_panic_of_the_operation_is_one() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    let run = async move { run(&spy, &(), async || -> Result<(), E> { panic!("poll") }).await };
    assert!(tokio::spawn(run).await.is_err());
    assert_eq!(log.take(), [("a", Admit), ("a", Settle(End::Panicked))]);
}

#[tokio::test]
async fn a_rejection_from_a_policy_inside_is_not_a_failure() {
    let (log, below) = (Log::default(), Spy::new("below", &Log::default()));
    below.0.refuse(overloaded());
    let inner = GuardLayer::new(below)
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    let spy = Spy::new("a", &log);
    let result = run(&spy, &(), async || inner.oneshot(1).await);
    assert_eq!(result.await, Err(E::Rejected(overloaded())));
    let outcome = Outcome::Overloaded { retry_after: None };
    assert_eq!(
        log.take(),
        [("a", Admit), ("a", Settle(End::Done(outcome)))]
    );
}

#[test]
fn an_operation_waits_for_its_turn_or_leaves_the_queue() {
    let log = Log::default();
    let gate = Gate::new("gate", &log);
    gate.0.close();
    let mut waiting = spawn(run(&gate, &(), async || Ok::<_, E>(1)));
    assert_pending!(waiting.poll());
    gate.0.open();
    assert_ready_eq!(waiting.poll(), Ok(1));
    drop(waiting);
    log.take();

    gate.0.close();
    let mut leaving = spawn(run(&gate, &(), async || Ok::<_, E>(1)));
    assert_pending!(leaving.poll());
    drop(leaving);
    assert_eq!(log.take(), [("gate", Wait), ("gate", Abandon)]);

    let mut refused = spawn(run(&gate, &(), async || Ok::<_, E>(1)));
    assert_pending!(refused.poll());
    gate.0.refuse(overloaded());
    assert_ready_eq!(refused.poll(), Err(E::Rejected(overloaded())));
    drop(refused);
    assert_eq!(log.take(), [("gate", Wait), ("gate", Refuse)]);
}
