//! Under a balancer, which picks another endpoint while a breaker is open.

use super::*;
use buttress::{
    Error, ErrorsAsFailures, Timeout, circuit_breaker::State,
    circuit_breaker::UnreadyWhenOpenService, guard::OnResponse,
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
    service_fn,
    util::BoxService,
};
use tower_test::mock;

type Endpoint = BoxService<(), usize, Error<io::Error>>;

/// An endpoint that answers after 10 ms with its number, or fails at once.
fn endpoint(number: usize, breaker: &CircuitBreaker, fails: bool) -> Endpoint {
    let service = service_fn(move |()| async move {
        if fails {
            return Err(io::Error::other("broken"));
        }
        tokio::time::sleep(10 * MILLI).await;
        Ok(number)
    });
    ServiceBuilder::new()
        .layer(
            breaker
                .layer()
                .classify(ErrorsAsFailures)
                .unready_when_open(),
        )
        .map_err(Error::Service)
        .service(service)
        .boxed()
}

fn balance(
    endpoints: Vec<Endpoint>,
) -> impl Service<(), Response = usize, Error = BoxError, Future: Send> + Send {
    let measured = endpoints.into_iter();
    let measured = measured.map(|one| PendingRequests::new(one, CompleteOnResponse::default()));
    let measured: Vec<_> = measured.collect();
    Balance::<_, ()>::new(ServiceList::new::<()>(measured))
}

#[tokio::test(start_paused = true)]
async fn a_balancer_passes_over_an_endpoint_whose_breaker_is_open() {
    let breakers: Vec<_> = (0..3).map(|_| plain().build().unwrap()).collect();
    let endpoints = breakers.iter().enumerate();
    let endpoints = endpoints.map(|(n, breaker)| endpoint(n, breaker, n == 1));
    let service = ServiceBuilder::new()
        .buffer(64)
        .service(balance(endpoints.collect()));
    let failed = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let calls = (0..10).map(|_| {
            let (service, failed) = (service.clone(), failed.clone());
            async move {
                if service.oneshot(()).await.is_err() {
                    failed.fetch_add(1, Relaxed);
                }
            }
        });
        futures::future::join_all(calls).await;
    }
    assert_eq!(breakers[1].state(), State::Open);
    let failed = failed.load(Relaxed);
    // Five to trip it, and those that had been sent by then.
    assert!((5..=10).contains(&failed), "{failed} of 200");
    assert_eq!(breakers[1].snapshot().trips_total, 1);
}

#[tokio::test(start_paused = true)]
async fn with_all_endpoints_open_a_timeout_outside_of_the_buffer_ends_the_wait() {
    let breakers: Vec<_> = (0..3).map(|_| plain().build().unwrap()).collect();
    let endpoints = breakers.iter().enumerate();
    let endpoints = endpoints.map(|(n, breaker)| endpoint(n, breaker, false));
    let timeout = Timeout::new("all", 2 * SECOND);
    let service = ServiceBuilder::new()
        .layer(timeout.layer())
        .buffer(64)
        .service(balance(endpoints.collect()));
    breakers.iter().for_each(CircuitBreaker::force_open);
    let began = Now::lazy().get();
    let waited = || Now::lazy().get().since(began);
    let error = service.clone().oneshot(()).await.unwrap_err();
    let rejected = error.downcast_ref::<Rejected>().unwrap();
    assert_eq!(rejected.kind(), Kind::TimedOut);
    assert_eq!(waited(), 2 * SECOND);
    // One that is reset is found within a second.
    breakers[2].reset();
    assert_eq!(service.oneshot(()).await.unwrap(), 2);
    assert!(waited() <= 3 * SECOND + 20 * MILLI);
}

type Mocked = UnreadyWhenOpenService<mock::Mock<(), ()>, OnResponse<ErrorsAsFailures>>;

fn mocked(breaker: &CircuitBreaker) -> (Mocked, mock::Handle<(), ()>) {
    let (service, handle) = mock::pair();
    let layer = breaker
        .layer()
        .classify(ErrorsAsFailures)
        .unready_when_open();
    (layer.layer(service), handle)
}

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_again_when_its_breaker_is_half_open_and_has_a_probe_left() {
    let breaker = plain().build().unwrap();
    let (mut service, mut handle) = mocked(&breaker);
    handle.allow(1_000);
    let mut ready = task::spawn(async { service.ready().await.map(drop) });
    assert_ready_ok!(ready.poll());
    drop(ready);
    for _ in 0..5 {
        call(&breaker, UNWELL);
    }
    assert_eq!(breaker.state(), State::Open);
    let mut ready = task::spawn(async { service.ready().await.map(drop) });
    assert_pending!(ready.poll());
    advance(5 * SECOND - MILLI).await;
    if ready.is_woken() {
        assert_pending!(ready.poll());
    }
    advance(2 * MILLI).await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
    drop(ready);
    // The only probe goes to somebody else.
    let probe = start(&breaker);
    let mut ready = task::spawn(async { service.ready().await.map(drop) });
    assert_pending!(ready.poll());
    end(&breaker, probe, WELL);
    advance(11 * MILLI).await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn only_a_breaker_that_refuses_is_waited_for() {
    for (observed, forced) in [(true, false), (true, true), (false, true)] {
        let breaker = plain().observe_only(observed).build().unwrap();
        for _ in 0..5 {
            call(&breaker, UNWELL);
        }
        if forced {
            breaker.force_open();
        }
        let (service, mut handle) = mocked(&breaker);
        handle.allow(1_000);
        let mut other = service.clone();
        let mut ready = task::spawn(async { other.ready().await.map(drop) });
        if !forced {
            assert_ready_ok!(ready.poll());
            continue;
        }
        assert_pending!(ready.poll());
        advance(3_600 * SECOND).await;
        assert!(ready.is_woken());
        assert_pending!(ready.poll());
        breaker.force_closed();
        advance(SECOND + MILLI).await;
        assert!(ready.is_woken());
        assert_ready_ok!(ready.poll());
    }
}

/// The service beneath is asked whether it is ready as soon as the breaker lets calls in, and is
/// not called before.
#[tokio::test(start_paused = true)]
async fn the_service_beneath_is_waited_for_as_well() {
    let breaker = plain().build().unwrap();
    let (mut service, mut handle) = mocked(&breaker);
    handle.allow(0);
    let mut ready = task::spawn(async { service.ready().await.map(drop) });
    assert_pending!(ready.poll());
    // It trips meanwhile: not ready either way, and nothing is refused.
    for _ in 0..5 {
        call(&breaker, UNWELL);
    }
    assert_pending!(ready.poll());
    handle.allow(1);
    assert_pending!(ready.poll());
    advance(5 * SECOND + MILLI).await;
    assert_ready_ok!(ready.poll());
    assert_eq!(breaker.snapshot().rejected_total, 0);
}

#[tokio::test]
async fn what_responses_mean_may_depend_on_the_request() {
    let broken = |fails: bool| {
        move |_: Result<&(), &Error<io::Error>>| match fails {
            true => Outcome::Failure,
            false => Outcome::Success,
        }
    };
    let breaker = plain().consecutive_failures(1).build().unwrap();
    let by_classifier = breaker
        .layer()
        .classify_by(move |fails: &bool| broken(*fails));
    let by_strategy = breaker
        .layer()
        .settle_by(move |fails: &bool| OnResponse(broken(*fails)));
    let answers = || service_fn(async |_: bool| Ok::<_, Error<io::Error>>(()));
    let mut first = by_classifier.unready_when_open().layer(answers());
    let mut second = by_strategy.unready_when_open().layer(answers());
    for service in 0..2 {
        for (fails, state) in [(false, State::Closed), (true, State::Open)] {
            match service {
                0 => first.ready().await.unwrap().call(fails).await.unwrap(),
                _ => second.ready().await.unwrap().call(fails).await.unwrap(),
            }
            assert_eq!(breaker.state(), state);
        }
        breaker.reset();
    }
}
