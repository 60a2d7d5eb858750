//! An `Option` of a guard is a guard.

use buttress::{
    CircuitBreaker, Error, ErrorsAsFailures, GuardLayer, Kind, LoadShed, RateLimiter, WaitLayer,
    circuit_breaker::State, guard,
};
use std::{future::pending, io, time::Duration};
use tokio_test::{assert_pending, assert_ready, block_on, task::spawn};
use tower::{Layer, ServiceExt, service_fn};

type E = Error<io::Error>;

#[test]
fn none_admits_every_call_and_some_is_the_guard() {
    let breaker = CircuitBreaker::new("db");
    breaker.force_open();
    let refused = block_on(guard::run(&Some(&breaker), &(), async || Ok::<_, E>(1)));
    assert!(matches!(refused, Err(Error::Rejected(r)) if r.kind() == Kind::CircuitOpen));
    let none: Option<&CircuitBreaker> = None;
    let answer = block_on(guard::run(&none, &(), async || Ok::<_, E>(1)));
    assert_eq!(answer.unwrap(), 1);
}

#[test]
fn some_learns_from_ends_and_stands_in_layers_and_tuples() {
    for on in [true, false] {
        let breaker = CircuitBreaker::new("db");
        let limiter = RateLimiter::new("db", 100, Duration::from_secs(1)).unwrap();
        let guards = (on.then(|| breaker.clone()), Some(limiter));
        let layer = GuardLayer::new(guards).classify(ErrorsAsFailures);
        let service = layer.layer(service_fn(async |_: u8| {
            Err::<(), E>(Error::Service(io::Error::other("gone")))
        }));
        for n in 0..5 {
            assert!(block_on(service.clone().oneshot(n)).is_err());
        }
        assert_eq!(breaker.state() == State::Open, on);
    }
}

#[tokio::test(start_paused = true)]
async fn some_waits_as_its_guard_does_and_leaves_the_queue() {
    let shed = LoadShed::builder("db").fixed(1).build().unwrap();
    for on in [true, false] {
        let guard = on.then(|| shed.queued());
        let mut running = spawn(guard::run(&guard, &(), pending::<Result<(), E>>));
        assert_pending!(running.poll());
        let mut second = spawn(guard::run(&guard, &(), async || Ok::<_, E>(2)));
        match on {
            true => {
                assert_pending!(second.poll());
                assert_eq!(shed.snapshot().queued, 1);
                drop(second);
                assert_eq!(shed.snapshot().queued, 0);
                let mut third = spawn(guard::run(&guard, &(), async || Ok::<_, E>(3)));
                assert_pending!(third.poll());
                drop(running);
                assert_eq!(assert_ready!(third.poll()).unwrap(), 3);
            }
            false => assert_eq!(assert_ready!(second.poll()).unwrap(), 2),
        }
        assert_eq!(shed.snapshot().in_flight, 0);
    }
    let service = service_fn(async |n: u8| Ok::<_, E>(n));
    let layer = WaitLayer::new(Some(shed.queued())).classify(ErrorsAsFailures);
    assert_eq!(layer.layer(service).oneshot(4).await.unwrap(), 4);
}
