//! Around a service.

use super::*;
use buttress::{Error, ErrorsAsFailures, circuit_breaker::State, guard::GuardLayer};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

type Fails = Error<&'static str>;

// The peer's breaker never opened on 60 connections with 500 failures each.
#[tokio::test(start_paused = true)]
async fn sixty_services_of_many_layers_share_one_state() {
    let breaker = plain().without_consecutive_failures().build().unwrap();
    let failing = service_fn(async |(): ()| Err::<(), _>(Error::Service("boom")));
    let services: Vec<_> = (0..60)
        .map(|_| breaker.layer().classify(ErrorsAsFailures).layer(failing))
        .collect();
    let calls = services.into_iter().map(|mut service| {
        tokio::spawn(async move {
            let mut sent = 0;
            for _ in 0..500 {
                tokio::task::yield_now().await;
                let answer: Result<(), Fails> = service.ready().await.unwrap().call(()).await;
                sent += u32::from(matches!(answer, Err(Error::Service(_))));
            }
            sent
        })
    });
    let mut sent = 0;
    for call in calls.collect::<Vec<_>>() {
        sent += call.await.unwrap();
    }
    assert_eq!(sent, 20, "the minimum");
    assert_eq!(breaker.snapshot().rejected_total, 60 * 500 - 20);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_or_in_poll_is_a_failure() {
    for in_call in [true, false] {
        let breaker = plain().build().unwrap();
        let panicking = service_fn(move |(): ()| {
            assert!(!in_call, "in call");
            async { panic!("in poll") }
        });
        let mut service = breaker.layer().classify(ErrorsAsFailures).layer(panicking);
        for n in 0..6 {
            let mut answer = None;
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let call = service.call(());
                let call: Pin<Box<dyn Future<Output = Result<(), Fails>>>> = Box::pin(call);
                answer = Some(assert_ready!(task::spawn(call).poll()));
            }));
            assert_eq!(panicked.is_err(), n < 5, "{answer:?}");
        }
        assert_eq!(breaker.state(), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_before_its_first_poll_or_while_running_leaves_nothing() {
    let breaker = plain().slow_call_rate(1.0).build().unwrap();
    let hangs = service_fn(|(): ()| std::future::pending::<Result<(), Fails>>());
    let mut service = breaker.layer().classify(ErrorsAsFailures).layer(hangs);
    for polled in [false, true] {
        for _ in 0..50 {
            let mut call = task::spawn(service.call(()));
            if polled {
                assert_pending!(call.poll());
            }
        }
    }
    advance(SECOND).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.in_flight_slow, snapshot.calls), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_at_any_point_is_followed_by_another() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    let steps = service_fn(|(): ()| async {
        tokio::task::yield_now().await;
        Ok::<_, Fails>(())
    });
    let mut service = breaker.layer().classify(ErrorsAsFailures).layer(steps);
    for polls in 0..2 {
        let mut call = task::spawn(service.call(()));
        (0..polls).for_each(|_| assert_pending!(call.poll()));
        drop(call);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    service.call(()).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_refuses_after_it_gives_the_probe_back() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    let second = plain().build().unwrap();
    second.force_open();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    let layer = GuardLayer::new((breaker.clone(), second.clone())).classify(ErrorsAsFailures);
    let mut service = layer.layer(service_fn(async |(): ()| Ok::<_, Fails>(())));
    for _ in 0..3 {
        assert!(service.call(()).await.is_err());
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    second.reset();
    service.call(()).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_by_a_breaker_below_is_no_failure_of_this_one() {
    let (outer, inner) = (plain().build().unwrap(), plain().build().unwrap());
    inner.force_open();
    let stack = ServiceBuilder::new()
        .layer(outer.layer().classify(ErrorsAsFailures))
        .layer(inner.layer().classify(ErrorsAsFailures));
    let mut service = stack.service(service_fn(async |(): ()| Ok::<_, Fails>(())));
    for _ in 0..100 {
        assert!(service.call(()).await.is_err());
    }
    assert_eq!((outer.state(), outer.snapshot().calls), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_does_not_wait_for_a_service_that_is_not_ready() {
    let breaker = plain().build().unwrap();
    let (service, mut handle) = mock::pair::<(), ()>();
    let service = service.map_err(|error| Error::Service(error.to_string()));
    let mut service = mock::Spawn::new(breaker.layer().classify(ErrorsAsFailures).layer(service));
    handle.allow(0);
    assert_pending!(service.poll_ready::<()>());
    assert!(!service.is_woken());
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert!(
        service.is_woken(),
        "parked behind a stuck service, and told"
    );
    assert_ready_ok!(service.poll_ready::<()>());
    let Err(Error::Rejected(rejected)) = service.call(()).await else {
        panic!("let in");
    };
    assert_eq!(rejected.kind(), Kind::CircuitOpen);
    advance(5 * SECOND).await;
    assert_pending!(
        service.poll_ready::<()>(),
        "now it is the service that decides"
    );
    breaker.force_open();
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready::<()>());
}

#[tokio::test(start_paused = true)]
async fn readiness_that_is_lost_between_the_poll_and_the_call_costs_no_probe() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let mut service = breaker
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Gate(ready.clone()));
    call(&breaker, UNWELL);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    advance(5 * SECOND).await;
    let Err(Error::Rejected(rejected)) = service.call(()).await else {
        panic!("called a service that was not ready");
    };
    assert_eq!(rejected.kind(), Kind::NotReady);
    ready.store(true, Relaxed);
    service.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

/// Ready if told so.
struct Gate(Arc<AtomicBool>);

impl Service<()> for Gate {
    type Response = ();
    type Error = Fails;
    type Future = std::future::Ready<Result<(), Fails>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fails>> {
        match self.0.load(Relaxed) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

/// A service whose connection cannot be made, or has just been.
fn connecting(fails: &Arc<AtomicBool>) -> impl Service<(), Response = (), Error = Fails> + Clone {
    #[derive(Clone)]
    struct Connecting(Arc<AtomicBool>);
    impl Service<()> for Connecting {
        type Response = ();
        type Error = Fails;
        type Future = std::future::Ready<Result<(), Fails>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fails>> {
            Poll::Ready(match self.0.load(Relaxed) {
                true => Err(Error::Service("refused")),
                false => Ok(()),
            })
        }
        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }
    Connecting(fails.clone())
}

#[tokio::test(start_paused = true)]
async fn connections_that_cannot_be_made_are_failures_and_failed_probes() {
    let (breaker, fails) = (plain().build().unwrap(), Arc::new(AtomicBool::new(true)));
    let layer = breaker.layer().classify(ErrorsAsFailures);
    let service = layer.layer(connecting(&fails));
    let connect = async || service.clone().ready().await.map(|_| ());
    for n in 1..=5 {
        assert_eq!(breaker.state(), State::Closed);
        assert!(connect().await.is_err());
        assert_eq!(breaker.snapshot().failures_total, n);
    }
    assert_eq!(breaker.state(), State::Open);
    // While it is open they decide nothing; after the open time they do, again and again.
    for open_for in [5, 10, 20] {
        assert!(connect().await.is_err());
        assert_eq!(breaker.snapshot().retry_after, Some(open_for * SECOND));
        advance(open_for * SECOND).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(connect().await.is_err());
        assert_eq!(breaker.state(), State::Open);
    }
    assert_eq!(breaker.snapshot().rejected_total, 0);
    advance(40 * SECOND).await;
    fails.store(false, Relaxed);
    assert_eq!(service.clone().oneshot(()).await, Ok(()));
    assert_eq!(breaker.state(), State::Closed);
    // A failed connection in front of a probe that runs leaves the decision to the probe.
    (0..5).for_each(|_| call(&breaker, UNWELL));
    advance(5 * SECOND).await;
    let probe = start(&breaker);
    fails.store(true, Relaxed);
    assert!(connect().await.is_err());
    end(&breaker, probe, WELL);
    assert_eq!(breaker.state(), State::Closed);
    breaker.force_open();
    assert!(connect().await.is_err());
    breaker.force_closed();
    assert!(connect().await.is_err());
    assert_eq!(
        (breaker.snapshot().calls, breaker.state()),
        (1, State::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn all_callers_who_wait_for_a_service_that_is_not_ready_hear_that_it_is_open() {
    let breaker = plain().build().unwrap();
    let (service, mut handle) = mock::pair::<(), ()>();
    handle.allow(0);
    let layer = breaker.layer().classify(ErrorsAsFailures);
    let service = layer.layer(service.map_err(|_| Fails::Service("gone")));
    let wait = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..3_000)
        .map(|_| {
            let (mut service, wait) = (service.clone(), wait.clone());
            tokio::spawn(async move {
                let mut waits = false;
                poll_fn(|cx| {
                    let polled = service.poll_ready(cx);
                    if polled.is_pending() && !std::mem::replace(&mut waits, true) {
                        wait.fetch_add(1, Relaxed);
                    }
                    polled
                })
                .await
                .unwrap();
                service.call(()).await
            })
        })
        .collect();
    // All of them wait, and have looked again when they were woken to.
    for _ in 0..10_000 {
        if wait.load(Relaxed) == 3_000 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(wait.load(Relaxed), 3_000);
    tokio::time::sleep(MILLI).await;
    breaker.force_open();
    for caller in callers {
        let answer = tokio::time::timeout(SECOND, caller).await.unwrap();
        assert!(matches!(answer.unwrap(), Err(Error::Rejected(_))));
    }
}
