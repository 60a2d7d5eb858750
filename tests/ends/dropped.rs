//! What an application gave to a policy is dropped with the last of its handles, layers, services
//! and calls, whichever threads they were on: a graceful shutdown waits for nothing else.

use buttress::{
    Cache, CircuitBreaker, Criticality, Error, ErrorsAsFailures, GuardLayer, LoadShed, Outcome,
    RateLimiter, Rejected, Retry, Throttle, Timeout,
    guard::{self, Shadow},
    http::{OnBodyEnd, RespondLayer},
    retry::Backoff,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use std::{convert::Infallible, io, sync::Arc, thread, time::Duration};
use tokio_test::block_on;
use tower::{Layer, Service, ServiceExt, service_fn};

type E = Error<io::Error>;
type Held = Arc<()>;

const SECOND: Duration = Duration::from_secs(1);

/// A classifier that holds something of the application.
fn classifier<T, E2>(
    held: &Held,
) -> impl Fn(Result<&T, &E2>) -> Outcome + Clone + Send + Sync + use<T, E2> {
    let held = Arc::clone(held);
    move |result| {
        assert!(Arc::strong_count(&held) > 0);
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }
}

/// A key, or whatever else is asked about a request, that holds something.
fn about<Req, T: Copy + Send + Sync + 'static>(
    held: &Held,
    answer: T,
) -> impl Fn(&Req) -> T + Clone + Send + Sync + use<Req, T> {
    let held = Arc::clone(held);
    move |_| {
        assert!(Arc::strong_count(&held) > 0);
        answer
    }
}

/// Makes calls of a layer's services on two threads, and drops all but one call, and then that.
macro_rules! layers {
    ($($what:literal: |$held:ident| $layer:expr;)*) => {$({
        let first = Held::default();
        let layer = {
            let $held = &first;
            $layer
        };
        let mut service = layer.layer(service_fn(async |n: u8| Ok::<_, E>(n)));
        assert!(Arc::strong_count(&first) > 1, "{} holds nothing", $what);
        let clone = service.clone();
        let elsewhere = thread::spawn(move || {
            assert!(block_on(clone.clone().oneshot(0)).is_ok());
            clone
        });
        let clone = elsewhere.join().unwrap();
        drop(layer);
        assert!(block_on(service.ready()).is_ok());
        let call = service.call(1);
        drop((service, clone));
        assert!(block_on(call).is_ok());
        assert_eq!(Arc::strong_count(&first), 1, "{}", $what);
    })*};
}

#[test]
fn what_policies_hold_is_dropped_with_their_layers() {
    let keyed = |held: &Held| CircuitBreaker::builder("a").keyed(about(held, 0)).build();
    let quota = || RateLimiter::builder("a", 100, SECOND);
    let ranked = |held: &Held| LoadShed::builder("a").priority(about(held, Criticality::Critical));
    layers! {
        "a breaker's classifier": |held| CircuitBreaker::new("a").layer().classify(classifier(held));
        "a breaker's key": |held| keyed(held).unwrap().layer().classify(ErrorsAsFailures);
        "a limiter's key": |held| quota().keyed(about(held, 0)).build().unwrap().layer();
        "a waiting limiter's key": |held| {
            let limiter = quota().keyed(about(held, 0)).build().unwrap();
            limiter.wait_up_to(SECOND).layer()
        };
        "a load shed's classifier": |held| LoadShed::new("a").layer().classify(classifier(held));
        "a load shed's priority": |held| {
            ranked(held).build().unwrap().layer().classify(ErrorsAsFailures)
        };
        "a queue's priority": |held| {
            ranked(held).build().unwrap().queued().layer().classify(ErrorsAsFailures)
        };
        "a queue's classifier": |held| {
            LoadShed::new("a").queued().layer().classify(classifier(held))
        };
        "backpressure's classifier": |held| {
            LoadShed::new("a").backpressure().layer().classify(classifier(held))
        };
        "a throttle's classifier": |held| Throttle::new("a").layer().classify(classifier(held));
        "a retry's classifier": |held| Retry::new("a").layer().classify(classifier(held));
        "a retry's backoff": |held| {
            let wait = about(held, SECOND);
            let backoff = Backoff::custom(move |n, _| wait(&n));
            let retry = Retry::builder("a").backoff(backoff).build().unwrap();
            retry.layer().classify(ErrorsAsFailures)
        };
        "a timeout's limit": |held| Timeout::new("a", SECOND).layer().limit_by(about(held, SECOND));
        "a shadow's guard": |held| {
            Shadow::new("a", keyed(held).unwrap()).layer().classify(ErrorsAsFailures)
        };
        "guards in one layer": |held| {
            let guards = (keyed(held).unwrap(), Some(ranked(held).build().unwrap()));
            GuardLayer::new(guards).classify(classifier(held))
        };
    }
}

#[test]
fn what_policies_hold_is_dropped_with_their_handles() {
    let held = Held::default();
    let breaker = CircuitBreaker::new("a").classify(classifier(&held));
    let keyed = CircuitBreaker::builder("a").keyed(about(&held, 0));
    let keyed = keyed.build().unwrap();
    let limiter = RateLimiter::builder("a", 100, SECOND).keyed(about(&held, 0));
    let limiter = limiter.build().unwrap();
    let shed = LoadShed::builder("a").priority(about(&held, Criticality::Critical));
    let shed = shed.build().unwrap();
    let all = (keyed.clone(), limiter.clone(), shed.queued());
    for _ in 0..2 {
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(block_on(breaker.run(async || Ok::<_, E>(1))).is_ok());
                assert!(block_on(keyed.run_for(&1, async || Ok::<_, E>(1))).is_ok());
                assert!(block_on(limiter.run_for(&1, async || Ok::<_, E>(1))).is_ok());
                assert!(block_on(shed.run_for(&1, async || Ok::<_, E>(1))).is_ok());
                assert!(block_on(guard::run(&all, &1, async || Ok::<_, E>(1))).is_ok());
            });
        });
    }
    let permit = guard::hold(shed.clone(), &1).unwrap();
    drop((breaker, keyed, limiter, shed, all));
    assert!(Arc::strong_count(&held) > 1, "a permit that is held");
    drop(permit);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn what_an_edge_holds_is_dropped_with_it() {
    let held = Held::default();
    let (answers, judges) = (Arc::clone(&held), classifier(&held));
    let responder =
        move |_: Rejected| Response::new(Full::from(Arc::strong_count(&answers).to_string()));
    let stack = CircuitBreaker::new("a").layer().settle(OnBodyEnd(judges));
    let layer = RespondLayer::new(responder, stack);
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("text")))
    }));
    drop(layer);
    let response = block_on(service.oneshot(Request::new(()))).unwrap();
    // What a body has yet to tell.
    assert!(Arc::strong_count(&held) > 1);
    drop(response);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn what_a_cache_has_stored_is_dropped_with_it() {
    let held = Held::default();
    let cache = Cache::builder("a").build::<Held>().unwrap();
    for key in ["a", "b", "a"] {
        let held = Arc::clone(&held);
        let load = || async move { Ok::<_, E>(held) };
        assert!(block_on(cache.run(key, load)).is_ok());
    }
    let clone = cache.clone();
    assert!(Arc::strong_count(&held) > 1);
    drop((cache, clone));
    assert_eq!(Arc::strong_count(&held), 1);
}
