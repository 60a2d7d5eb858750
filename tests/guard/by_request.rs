//! Strategies that are chosen by the request: the same result means one thing for one request, and
//! another for another.

use crate::support::*;
use buttress::{
    Guard, GuardLayer, Now, Outcome, ReserveLayer, WaitLayer,
    guard::{self, Admission, AnyStrategy, End, Never, OnResponse, Reserve, Settle, StrategyFor},
    retry::{Backoff, Retry},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_test::{assert_pending, task::spawn};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const IGNORED: End = End::Done(Outcome::Ignored);
const FAILURE: End = End::Done(Outcome::Failure);

/// An error is what the request said it would be.
fn as_asked(req: &Outcome) -> impl Fn(Result<&(), &E>) -> Outcome + use<> {
    let asked = *req;
    move |_: Result<&(), &E>| asked
}

async fn boom(_: Outcome) -> Result<(), E> {
    Err(E::Boom)
}

/// What a guard behind this layer hears of the ends of two requests.
async fn ends<L, S>(log: &Log, layer: L) -> Vec<(&'static str, Event)>
where
    L: Layer<tower::util::BoxCloneService<Outcome, (), E>, Service = S>,
    S: Service<Outcome, Response = (), Error = E>,
{
    let inner = tower::util::BoxCloneService::new(service_fn(boom));
    let mut service = layer.layer(inner);
    for asked in [Outcome::Ignored, Outcome::Failure] {
        assert_eq!(
            service.ready().await.unwrap().call(asked).await,
            Err(E::Boom)
        );
    }
    log.take()
}

fn told(ends: [End; 2]) -> Vec<(&'static str, Event)> {
    let told = ends.map(|end| [("a", Admit), ("a", Settle(end))]);
    told.concat()
}

#[tokio::test]
async fn a_guard_hears_what_the_result_means_for_this_request() {
    let log = Log::default();
    let layer = GuardLayer::new(Spy::new("a", &log)).classify_by(as_asked);
    assert_eq!(ends(&log, layer).await, told([IGNORED, FAILURE]));
    // By its full name.
    let strategy = |req: &Outcome| OnResponse(as_asked(req));
    let layer = GuardLayer::new(Spy::new("a", &log)).settle_by(strategy);
    assert_eq!(ends(&log, layer.clone()).await, told([IGNORED, FAILURE]));
}

#[tokio::test]
async fn so_does_one_that_may_wait() {
    let log = Log::default();
    let gate = Gate::new("a", &log);
    let layer = WaitLayer::new(gate.clone()).classify_by(as_asked);
    assert_eq!(ends(&log, layer.clone()).await, told([IGNORED, FAILURE]));
    // After its wait.
    gate.0.close();
    let mut call = spawn(layer.layer(service_fn(boom)).oneshot(Outcome::Ignored));
    assert_pending!(call.poll());
    gate.0.open();
    assert_eq!(call.await, Err(E::Boom));
    assert_eq!(
        log.take(),
        [("a", Wait), ("a", Admit), ("a", Settle(IGNORED))]
    );
}

impl Reserve for Spy {
    fn poll_reserve(&self, _: &mut Option<Never>, _: &mut Context<'_>, now: &Now) -> Poll<Permit> {
        match self.admit(&(), now) {
            Admission::Admitted(permit) => Poll::Ready(permit),
            Admission::Refused(_) | Admission::Wait(_) => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn so_does_one_that_reserves() {
    let log = Log::default();
    let layer = ReserveLayer::new(Spy::new("a", &log)).classify_by(as_asked);
    assert_eq!(ends(&log, layer).await, told([IGNORED, FAILURE]));
}

/// A choice that panics.
fn no_choice(_: &usize) -> fn(Result<&usize, &E>) -> Outcome {
    panic!("choice")
}

/// Calls a service, and polls the call, until that panics.
fn panics<S>(service: S, mut meanwhile: impl FnMut())
where
    S: Service<usize, Response = usize, Error = E>,
{
    let call = || {
        let mut call = spawn(service.oneshot(1));
        for _ in 0..2 {
            assert_pending!(call.poll());
            meanwhile();
        }
    };
    let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"choice"));
}

#[test]
fn a_choice_that_panics_is_the_end_of_a_call_that_never_started() {
    let log = Log::default();
    let (spy, gate) = (Spy::new("a", &log), Gate::new("a", &log));
    let steps = || Steps(log.clone());
    let never_started = [("a", Admit), ("a", Settle(End::NeverStarted))];

    let layer = GuardLayer::new(spy.clone()).classify_by(no_choice);
    panics(layer.layer(steps()), || {});
    assert_eq!(log.take(), never_started);

    let layer = ReserveLayer::new(spy).classify_by(no_choice);
    panics(layer.layer(steps()), || {});
    assert_eq!(log.take(), never_started);

    let layer = WaitLayer::new(gate.clone()).classify_by(no_choice);
    panics(layer.layer(steps()), || {});
    assert_eq!(log.take(), never_started, "at once");
    gate.0.close();
    panics(layer.layer(steps()), || gate.0.open());
    let after_a_wait = [&[("a", Wait)], &never_started[..]].concat();
    assert_eq!(log.take(), after_a_wait);
}

#[tokio::test]
async fn a_refused_call_is_not_asked_for_its_strategy() {
    let log = Log::default();
    let spy = Spy::new("a", &log);
    spy.0.refuse(overloaded());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let layer = GuardLayer::new(spy.clone()).classify_by(move |req: &Outcome| {
        counted.fetch_add(1, Relaxed);
        as_asked(req)
    });
    let mut service = layer.layer(service_fn(boom));
    assert_eq!(
        service.call(Outcome::Failure).await,
        Err(E::Rejected(overloaded()))
    );
    assert_eq!(asked.load(Relaxed), 0);
    spy.0.refuse(None);
    assert_eq!(service.call(Outcome::Failure).await, Err(E::Boom));
    assert_eq!(asked.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_what_is_a_failure_for_this_request() {
    let retry = Retry::builder("db")
        .attempts(3)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .build()
        .unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let mut service = ServiceBuilder::new()
        .layer(retry.layer().classify_by(as_asked))
        .service(service_fn(move |_: Outcome| {
            counted.fetch_add(1, Relaxed);
            async { Err::<(), _>(E::Boom) }
        }));
    assert_eq!(service.call(Outcome::Ignored).await, Err(E::Boom));
    assert_eq!(calls.swap(0, Relaxed), 1);
    assert_eq!(service.call(Outcome::Failure).await, Err(E::Boom));
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test]
async fn a_closure_knows_its_request_anyway() {
    let log = Log::default();
    for asked in [Outcome::Ignored, Outcome::Failure] {
        let spy = guard::classify(Spy::new("a", &log), as_asked(&asked));
        assert_eq!(spy.run(|| boom(asked)).await, Err(E::Boom));
    }
    assert_eq!(log.take(), told([IGNORED, FAILURE]));
}

/// A service in a generic function, with either kind of strategy.
async fn generic<P>(layer: GuardLayer<Spy, P>) -> Result<(), E>
where
    P: AnyStrategy + StrategyFor<Outcome, Strategy: Settle<(), E, Response<P::Ref<Spy>> = ()>>,
{
    layer.layer(service_fn(boom)).call(Outcome::Failure).await
}

#[tokio::test]
async fn generic_code_can_name_the_bound() {
    let log = Log::default();
    let spy = || GuardLayer::new(Spy::new("a", &log));
    assert_eq!(generic(spy().classify_by(as_asked)).await, Err(E::Boom));
    let plain = |_: Result<&(), &E>| Outcome::Ignored;
    assert_eq!(generic(spy().classify(plain)).await, Err(E::Boom));
    assert_eq!(log.take(), told([FAILURE, IGNORED]));
}
