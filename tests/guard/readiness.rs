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
fn an_error_of_readiness_passes_and_the_guard_is_not_asked() {
    let log = Log::default();
    let layer = GuardLayer::new(Spy::new("a", &log)).classify(ErrorsAsFailures);
    let mut service = layer.layer(Moody::new(Poll::Ready(Err(E::Boom))));
    assert_eq!(assert_ready_err!(service.poll_ready(&mut cx())), E::Boom);
    assert!(log.take().is_empty());
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
