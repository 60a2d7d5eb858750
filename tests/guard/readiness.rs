//! Who is asked to be ready, and what a rejection does not wait for.

use crate::support::*;
use buttress::{ErrorsAsFailures, GuardLayer, Kind, WaitLayer, guard::End};
use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

/// Ready when it is told to be, for one call at a time, and each clone for itself.
struct Moody {
    ready: bool,
    mood: Arc<Mutex<Poll<Result<(), E>>>>,
}

impl Moody {
    fn new(mood: Poll<Result<(), E>>) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        Self { ready: false, mood }
    }
}

impl Clone for Moody {
    fn clone(&self) -> Self {
        let (ready, mood) = (false, self.mood.clone());
        Self { ready, mood }
    }
}

impl Service<usize> for Moody {
    type Response = usize;
    type Error = E;
    type Future = Ready<Result<usize, E>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mood = *self.mood.lock().unwrap();
        self.ready = mood == Poll::Ready(Ok(()));
        mood
    }
    fn call(&mut self, n: usize) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        ready(Ok(n))
    }
}

/// Makes its connection behind a policy, which refuses.
struct Connects;

impl Service<usize> for Connects {
    type Response = usize;
    type Error = E;
    type Future = Ready<Result<usize, E>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let spy = Spy::new("connect", &Log::default());
        spy.0.refuse(overloaded());
        let connect = buttress::guard::run(&spy, &(), async || Ok(()));
        std::pin::pin!(connect).poll(cx)
    }
    fn call(&mut self, n: usize) -> Self::Future {
        ready(Ok(n))
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[tokio::test]
async fn every_call_is_preceded_by_readiness_of_its_own_service() {
    let log = Log::default();
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(ErrorsAsFailures);
    let mut service = layer.layer(Moody::new(Poll::Ready(Ok(()))));
    for _ in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
    }
    assert_ready_ok!(service.poll_ready(&mut cx()));
    let mut clone = service.clone();
    assert_eq!(clone.ready().await.unwrap().call(2).await, Ok(2));
    assert_eq!(service.call(3).await, Ok(3));
}

#[test]
fn an_error_of_readiness_passes_and_the_guard_is_told_once_and_not_asked() {
    let log = Log::default();
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(ErrorsAsFailures);
    let mut service = layer.layer(Moody::new(Poll::Ready(Err(E::Boom))));
    assert_eq!(assert_ready_err!(service.poll_ready(&mut cx())), E::Boom);
    assert_eq!(log.take(), [("a", Unready)]);
    // Whatever guards there are, and whether or not they may wait.
    let spies = || {
        (
            Spy::new("a", &log),
            Spy::new("b", &log),
            Gate::new("c", &log),
        )
    };
    let layer = WaitLayer::new(spies()).classify(ErrorsAsFailures);
    let mut service = layer.layer(Moody::new(Poll::Ready(Err(E::Boom))));
    assert_eq!(assert_ready_err!(service.poll_ready(&mut cx())), E::Boom);
    assert_eq!(log.take(), [("c", Unready), ("b", Unready), ("a", Unready)]);
}

#[test]
fn a_refusal_of_readiness_by_a_policy_below_is_no_error_of_the_service() {
    let log = Log::default();
    let layer = |name| GuardLayer::new(Spy::new(name, &log)).classify(ErrorsAsFailures);
    let mut service = layer("a").layer(layer("b").layer(Connects));
    assert_eq!(
        assert_ready_err!(service.poll_ready(&mut cx())),
        E::Rejected(overloaded())
    );
    assert!(log.take().is_empty());
}

#[test]
fn a_call_that_waited_for_a_service_that_fails_to_be_ready_never_started() {
    let log = Log::default();
    let (gate, inner) = (Gate::new("a", &log), Moody::new(Poll::Ready(Ok(()))));
    let mood = inner.mood.clone();
    let mut service = WaitLayer::new(gate.clone())
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_ready_ok!(service.poll_ready(&mut cx()));
    gate.0.close();
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    gate.0.open();
    *mood.lock().unwrap() = Poll::Ready(Err(E::Boom));
    log.take();
    assert_eq!(assert_ready_err!(call.poll()), E::Boom);
    let told = [
        ("a", Admit),
        ("a", Settle(End::NeverStarted)),
        ("a", Unready),
    ];
    assert_eq!(log.take(), told);
}

#[tokio::test]
async fn a_rejection_does_not_wait_for_a_service_that_is_not_ready() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    let mut service = GuardLayer::new(spy.clone())
        .classify(ErrorsAsFailures)
        .layer(Moody::new(Poll::Pending));
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| service.poll_ready(cx)));
    assert!(!ready.is_woken());
    // The guard begins to refuse while the caller waits.
    spy.0.refuse(overloaded());
    spy.0.refuse_all(true);
    assert!(ready.is_woken());
    assert_ready_ok!(ready.enter(|cx, _| service.poll_ready(cx)));
    assert_eq!(service.call(1).await, Err(E::Rejected(overloaded())));
}

#[tokio::test]
async fn nor_does_a_rejection_next_to_a_guard_that_may_wait() {
    let log = Log::default();
    let (spy, gate) = (Spy::new("a", &log), Gate::new("b", &log));
    let mut service = WaitLayer::new((spy.clone(), gate))
        .classify(ErrorsAsFailures)
        .layer(Moody::new(Poll::Pending));
    let mut ready = task::spawn(());
    assert_pending!(ready.enter(|cx, _| service.poll_ready(cx)));
    spy.0.refuse(overloaded());
    spy.0.refuse_all(true);
    assert!(ready.is_woken());
    assert_ready_ok!(ready.enter(|cx, _| service.poll_ready(cx)));
    assert_eq!(service.call(1).await, Err(E::Rejected(overloaded())));
    // It changes its mind: the service, which still is not ready, is not called.
    assert_ready_ok!(service.poll_ready(&mut cx()));
    spy.0.refuse(None);
    let Err(E::Rejected(rejected)) = service.call(1).await else {
        panic!("not rejected");
    };
    assert_eq!(rejected.kind(), Kind::NotReady);
}

#[tokio::test]
async fn a_guard_that_changes_its_mind_does_not_have_an_unready_service_called() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    spy.0.refuse_all(true);
    let mut service = GuardLayer::new(spy.clone())
        .classify(ErrorsAsFailures)
        .layer(Moody::new(Poll::Pending));
    assert_ready_ok!(service.poll_ready(&mut cx()));
    spy.0.refuse_all(false);
    let Err(E::Rejected(rejected)) = service.call(1).await else {
        panic!("not rejected");
    };
    assert_eq!(rejected.kind(), Kind::NotReady);
    assert!(!rejected.reached_service());
    assert_eq!(log.take(), [("a", Admit), ("a", Settle(End::NeverStarted))]);
}

#[tokio::test]
async fn a_service_that_was_not_ready_is_called_once_it_is() {
    let log = Log::default();
    let inner = Moody::new(Poll::Pending);
    let mood = inner.mood.clone();
    let mut service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_pending!(service.poll_ready(&mut cx()));
    *mood.lock().unwrap() = Poll::Ready(Ok(()));
    // Neither the unready state nor the ready one is the clone's.
    let mut clone = service.clone();
    assert_ready!(clone.poll_ready(&mut cx())).unwrap();
    assert_eq!(clone.call(1).await, Ok(1));
    assert_ready!(service.poll_ready(&mut cx())).unwrap();
    assert_eq!(service.call(1).await, Ok(1));
}
