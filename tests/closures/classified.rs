//! A closure's classifier says what its results mean, for every policy in the same way.

use buttress::{
    CircuitBreaker, Classified, Classify, ErrorsBy, LoadShed, Outcome, Rejected, Retry, Throttle,
    circuit_breaker::State, guard, retry::Backoff,
};
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio_test::block_on;

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum DbError {
    #[error("no such row")]
    NotFound,
    #[error("there is one already")]
    NotUnique,
    #[error("too many connections")]
    Full,
    #[error("the connection broke")]
    Broken,
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

fn outcome(error: &DbError) -> Outcome {
    match error {
        DbError::NotFound | DbError::NotUnique => Outcome::Ignored,
        DbError::Full => Outcome::Overloaded { retry_after: None },
        DbError::Broken | DbError::Rejected(_) => Outcome::Failure,
    }
}

type OfDb = ErrorsBy<fn(&DbError) -> Outcome>;
const OF_DB: OfDb = ErrorsBy(outcome);

/// Nameable, a cheap clone, and fit for an application's state.
#[derive(Clone, Debug)]
struct App {
    database: Classified<CircuitBreaker, OfDb>,
    retry: Classified<Retry, OfDb>,
}

async fn fails(error: DbError) -> Result<u32, DbError> {
    Err(error)
}

#[test]
fn unknown_ids_and_violations_do_not_open_a_breaker_and_failures_do() {
    let breaker = CircuitBreaker::new("db");
    let app = App {
        database: breaker.classify(OF_DB),
        retry: Retry::new("db").classify(OF_DB),
    };
    for error in [DbError::NotFound, DbError::NotUnique, DbError::Full] {
        for _ in 0..5 {
            let answer = block_on(app.clone().database.run(|| fails(error.clone())));
            assert_eq!(answer, Err(error.clone()));
        }
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures_total, 0);
    assert_eq!(app.retry.policy().name(), "db");
    // The answers of one classifier are of any type.
    assert_eq!(block_on(app.database.run(async || Ok("row"))), Ok("row"));
    for _ in 0..5 {
        let _ = block_on(app.database.run(|| fails(DbError::Broken)));
    }
    assert_eq!(app.database.policy().state(), State::Open);
    let refused = block_on(app.database.run(|| fails(DbError::NotFound)));
    assert!(matches!(refused, Err(DbError::Rejected(_))), "{refused:?}");
}

#[test]
fn without_a_classifier_every_error_is_a_failure() {
    let breaker = CircuitBreaker::new("db");
    for _ in 0..5 {
        let _ = block_on(breaker.run(|| fails(DbError::NotFound)));
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn the_keyed_breaker_classifies_for_the_key_of_the_request() {
    let keyed = CircuitBreaker::builder("db").keyed(|shard: &u8| *shard);
    let keyed = keyed.build().unwrap();
    let database = keyed.classify(OF_DB);
    for error in [DbError::NotFound, DbError::Broken] {
        let shard = u8::from(error == DbError::Broken);
        for _ in 0..5 {
            let _ = block_on(database.run_for(&shard, || fails(error.clone())));
        }
    }
    assert_eq!(
        (keyed.state(&0), keyed.state(&1)),
        (State::Closed, State::Open)
    );
}

#[test]
fn a_throttle_around_a_client_hears_that_the_service_is_full() {
    let throttle = Throttle::new("db");
    let client = throttle.classify(OF_DB);
    for _ in 0..50 {
        let _ = block_on(client.run(|| fails(DbError::Full)));
    }
    let snapshot = throttle.snapshot();
    assert!(snapshot.rejected_total > 0, "{snapshot:?}");
    assert!(snapshot.probability > 0.5, "{snapshot:?}");
}

#[test]
fn load_sheds_and_tuples_classify_too() {
    let (shed, throttle) = (LoadShed::new("db"), Throttle::new("db"));
    let breaker = CircuitBreaker::new("db");
    let at_once = shed.classify(OF_DB);
    let queued = shed.queued().classify(OF_DB);
    let all = guard::classify((&breaker, &throttle, shed.queued()), OF_DB);
    for _ in 0..5 {
        let _ = block_on(at_once.run(|| fails(DbError::NotFound)));
        let _ = block_on(queued.run(|| fails(DbError::NotFound)));
        let _ = block_on(all.run(|| fails(DbError::NotFound)));
        let _ = block_on(all.run_for(&"request", || fails(DbError::Full)));
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures_total, 0);
    assert_eq!(throttle.snapshot().overloaded_total, 5);
    assert_eq!(shed.snapshot().admitted_total, 20);
    assert_eq!(shed.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_what_its_classifier_takes_for_a_failure() {
    let backoff = Backoff::constant(Duration::from_millis(1));
    let retry = Retry::builder("db").backoff(backoff).build().unwrap();
    let classified = retry.classify(OF_DB);
    for (error, attempts) in [
        (DbError::NotFound, 1),
        (DbError::Broken, 3),
        (DbError::Full, 3),
    ] {
        let calls = Cell::new(0);
        let answer = classified.run(async || {
            calls.set(calls.get() + 1);
            fails(error.clone()).await
        });
        assert_eq!((answer.await, calls.get()), (Err(error), attempts));
    }
}

#[test]
fn a_rejection_from_inside_is_not_asked_about() {
    struct Asked;
    impl<T> Classify<T, DbError> for Asked {
        fn classify(&self, _: Result<&T, &DbError>) -> Outcome {
            panic!("asked")
        }
    }
    let (outer, inner) = (CircuitBreaker::new("outer"), CircuitBreaker::new("inner"));
    inner.force_open();
    let run = outer.classify(Asked);
    let answer = block_on(run.run(async || inner.run(|| fails(DbError::Broken)).await));
    assert!(matches!(answer, Err(DbError::Rejected(_))));
    assert_eq!(outer.snapshot().failures_total, 0);
}

#[test]
fn a_classifier_that_panics_counts_as_a_panic_and_gives_the_permit_back() {
    let shed = LoadShed::builder("db").fixed(1).build().unwrap();
    let breaker = CircuitBreaker::new("db");
    let both = guard::classify((&shed, &breaker), |_: Result<&u32, &DbError>| -> Outcome {
        panic!("no idea")
    });
    let run = AssertUnwindSafe(|| block_on(both.run(|| fails(DbError::Broken))));
    assert!(catch_unwind(run).is_err());
    assert_eq!(shed.snapshot().in_flight, 0);
    assert_eq!(breaker.snapshot().failures_total, 1);
}
