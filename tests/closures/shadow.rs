//! A guard that is observed refuses nobody, and says whom it would have refused.

use buttress::{
    CircuitBreaker, Error, ErrorsAsFailures, LoadShed, RateLimiter, Rejected, Throttle,
    circuit_breaker::State, guard::Shadow, registry::Registry,
};
use std::{future::pending, io, time::Duration};
use tokio_test::{assert_pending, assert_ready, block_on, task::spawn};
use tower::{Layer, ServiceExt, service_fn};

type E = Error<io::Error>;

async fn ok() -> Result<u32, E> {
    Ok(7)
}

async fn gone() -> Result<u32, E> {
    Err(Error::Service(io::Error::other("gone")))
}

/// What it has admitted, would have rejected, and would have made wait.
fn counts<G>(shadow: &Shadow<G>) -> [u64; 3] {
    let s = shadow.snapshot();
    [s.admitted_total, s.would_reject_total, s.would_wait_total]
}

#[test]
fn a_limit_that_is_observed_counts_what_it_would_refuse() {
    let limiter = RateLimiter::new("api", 2, Duration::from_secs(3600)).unwrap();
    let trial = Shadow::new("trial", limiter.clone());
    for _ in 0..5 {
        assert_eq!(block_on(trial.run(ok)).unwrap(), 7);
    }
    assert_eq!(counts(&trial), [2, 3, 0]);
    let inside = limiter.snapshot();
    assert_eq!((inside.admitted_total, inside.rejected_total), (2, 3));
    assert_eq!(counts(&trial.clone()), [2, 3, 0]);
    assert_eq!((trial.name(), trial.get_ref().name()), ("trial", "api"));
}

#[test]
fn a_guard_that_would_wait_is_left_at_once_and_its_queue_stays_empty() {
    let shed = LoadShed::builder("api").fixed(1).build().unwrap();
    let trial = Shadow::new("trial", shed.queued());
    let mut running = spawn(trial.run(pending::<Result<(), E>>));
    assert_pending!(running.poll());
    let mut beside = spawn(trial.run(ok));
    assert!(assert_ready!(beside.poll()).is_ok());
    assert_eq!(counts(&trial), [1, 0, 1]);
    assert_eq!((shed.snapshot().queued, shed.snapshot().in_flight), (0, 1));
    drop(running);
    assert_eq!(shed.snapshot().in_flight, 0);
}

#[test]
fn the_guard_inside_learns_from_the_calls_that_it_admitted() {
    let breaker = CircuitBreaker::new("db");
    let trial = Shadow::new("db", breaker.clone());
    for _ in 0..8 {
        assert!(matches!(block_on(trial.run(gone)), Err(Error::Service(_))));
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().failures_total, 5);
    assert_eq!(counts(&trial), [5, 3, 0]);
}

#[test]
fn it_is_a_guard_like_any_other_in_layers_in_tuples_and_with_classifiers() {
    let breaker = CircuitBreaker::new("db");
    breaker.force_open();
    let trial = Shadow::new("db", (breaker, Throttle::new("db")));
    let service = service_fn(async |n: u8| Ok::<_, Rejected>(n));
    let layer = trial.layer().classify(ErrorsAsFailures);
    assert_eq!(block_on(layer.layer(service).oneshot(3)), Ok(3));
    assert_eq!(
        block_on(trial.classify(ErrorsAsFailures).run(ok)).unwrap(),
        7
    );
    assert_eq!(block_on(trial.run_for(&"request", ok)).unwrap(), 7);
    assert_eq!(counts(&trial), [0, 3, 0]);
}

#[test]
fn a_registry_lists_it() {
    let limiter = RateLimiter::new("api", 1, Duration::from_secs(3600)).unwrap();
    let trial = Shadow::new("trial", limiter);
    let registry = Registry::new();
    registry.add(&trial);
    for _ in 0..3 {
        assert!(block_on(trial.run(ok)).is_ok());
    }
    let json = serde_json::to_string(&registry.snapshot()).unwrap();
    let wanted = r#"[{"kind":"shadow","name":"trial","admitted_total":1,"would_reject_total":2,"would_wait_total":0}]"#;
    assert_eq!(json, wanted);
}
