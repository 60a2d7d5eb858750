//! How many attempts, when, and of what.

use crate::support::*;
use buttress::{
    Error, ErrorsAsFailures, Outcome, context,
    retry::{Attempt, Backoff, Budget, Retry},
};
use futures::{FutureExt, future::LocalBoxFuture};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn the_first_call_is_an_attempt() {
    for (attempts, calls) in [(1, 1), (2, 2), (5, 5)] {
        let retry = Retry::builder("api").attempts(attempts).build().unwrap();
        let script = Script::new([BUSY]);
        let answer = retry
            .layer()
            .classify(ErrorsAsFailures)
            .layer(script.service())
            .oneshot(0)
            .await;
        assert_eq!((answer, script.calls().len()), (BUSY, calls));
        let seen = retry.snapshot();
        assert_eq!(
            (seen.retries_total, seen.gave_up_total),
            (calls as u64 - 1, 1)
        );
        assert_eq!(seen.failed_attempts_total, calls as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_by_the_multiplier_and_a_success_ends_them() {
    let retry = Retry::builder("api")
        .attempts(9)
        .backoff(exact(500 * MS))
        .build()
        .unwrap();
    let script = Script::new([BUSY, BUSY, BUSY, Ok("done")]);
    let answer = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(script.service())
        .oneshot(0)
        .await;
    assert_eq!(answer, Ok("done"));
    assert_eq!(script.waits(), [500, 1_000, 2_000]);
}

/// A retry without waits, and a call that fails for ever, over the layer and over `run`.
fn endless(f: impl Fn(&Script, LocalBoxFuture<'_, Answer>)) {
    let retry = Retry::builder("api").backoff(Backoff::constant(Duration::ZERO));
    let retry = retry.attempts(u32::MAX).budget(Budget::unlimited());
    let retry = retry.build().unwrap();
    let script = Script::new([BUSY]);
    let layer = retry.layer().classify(ErrorsAsFailures);
    f(&script, Box::pin(layer.layer(script.service()).oneshot(0)));
    let script = Script::new([BUSY]);
    f(&script, Box::pin(retry.run(async || script.answer())));
}

#[test]
fn a_wait_of_zero_sets_no_timer_and_yields_once() {
    // There is no runtime that could make one.
    endless(|script, call| {
        let mut call = task::spawn(call);
        for attempts in 1..10 {
            assert_pending!(call.poll());
            assert_eq!(script.calls().len(), attempts);
            assert!(call.is_woken());
        }
    });
}

#[test]
fn a_timeout_outside_ends_a_call_that_is_retried_without_waits() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    endless(|script, call| {
        let answer = runtime.block_on(async { tokio::time::timeout(MS, call).await });
        assert!(answer.is_err());
        assert!(!script.calls().is_empty());
    });
}

#[test]
fn neither_a_success_nor_what_says_nothing_is_retried() {
    let retry = Retry::new("api");
    for outcome in [Outcome::Success, Outcome::Ignored] {
        let script = Script::new([BUSY]);
        let layer = retry
            .layer()
            .classify(move |_: Result<&&str, &Error<&str>>| outcome);
        let answer = layer.layer(script.service()).oneshot(0).now_or_never();
        assert_eq!((answer, script.calls().len()), (Some(BUSY), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_can_be_a_failure() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let script = Script::new([Ok("oops"), Ok("done")]);
    let oops = |result: Result<&&str, &Error<&str>>| match result {
        Ok(&"oops") => Outcome::Failure,
        _ => Outcome::Success,
    };
    let layer = retry.layer().classify(oops);
    assert_eq!(layer.layer(script.service()).oneshot(0).await, Ok("done"));
    let script = Script::new([Ok("oops"), Ok("done")]);
    assert_eq!(
        retry.classify(oops).run(async || script.answer()).await,
        Ok("done")
    );
}

#[tokio::test(start_paused = true)]
async fn the_number_of_the_attempt_is_in_the_context_of_calls_and_polls() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let service = service_fn(move |()| {
        let in_call = context::current().attempt;
        let note = Arc::clone(&note);
        async move {
            tokio::task::yield_now().await;
            note.lock()
                .unwrap()
                .push((in_call, context::current().attempt));
            BUSY
        }
    });
    let _ = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service)
        .oneshot(())
        .await;
    assert_eq!(*seen.lock().unwrap(), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(context::current().attempt, 1);
    seen.lock().unwrap().clear();
    let _ = retry
        .run(async || {
            seen.lock().unwrap().push((0, context::current().attempt));
            BUSY
        })
        .await;
    assert_eq!(*seen.lock().unwrap(), [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(Attempt(2), Attempt(2));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_loses_no_retry() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let asked = AtomicU32::new(0);
    let layer = retry
        .layer()
        .classify(move |_: Result<&&str, &Error<&str>>| {
            assert!(asked.fetch_add(1, SeqCst) == 0, "boom");
            Outcome::Failure
        });
    let script = Script::new([BUSY]);
    let call = layer.layer(script.service()).oneshot(0);
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    // One retry was made and spent; nothing is owed.
    assert_eq!(
        (script.calls().len(), retry.snapshot().budget_balance),
        (2, 9.0)
    );
    let again = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Script::new([Ok("done")]).service())
        .oneshot(0);
    assert_eq!(again.await, Ok("done"));
    assert_eq!(context::current().attempt, 1);
}

#[test]
fn a_call_that_succeeds_at_once_allocates_nothing_and_needs_no_timer() {
    let retry = Retry::new("api");
    let mut service = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service_fn(async |n: u32| Ok::<_, Error<()>>(n)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut call = std::pin::pin!(service.call(1));
        assert_eq!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
    };
    call();
    assert_eq!(allocation_counter::measure(call).count_total, 0);
    assert_eq!(retry.snapshot().failed_attempts_total, 0);
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    let retry = Retry::new("api");
    let run = async move { retry.run(async || Ok::<_, Error<()>>(1)).await };
    assert_eq!(tokio::spawn(run).await.unwrap(), Ok(1));
}

#[test]
fn terms_that_could_not_work_are_refused() {
    let field = |builder: buttress::retry::RetryBuilder| builder.build().unwrap_err().field();
    let builder = || Retry::builder("api");
    assert_eq!(field(builder().attempts(0)), "attempts");
    let shrinking = Backoff::default().multiplier(0.5);
    assert_eq!(field(builder().backoff(shrinking)), "multiplier");
    let over = Backoff::exponential(2 * MS).max(MS);
    assert_eq!(field(builder().backoff(over)), "initial");
    let extreme = builder().attempts(u32::MAX).max_wait(Duration::MAX);
    let extreme = extreme.backoff(Backoff::exponential(Duration::MAX)).build();
    assert_eq!(extreme.unwrap().name(), "api");
}

#[tokio::test(start_paused = true)]
async fn callers_that_fail_together_do_not_come_back_together_by_default() {
    let calls: Vec<_> = (0..9).map(|_| Script::new([BUSY, Ok("done")])).collect();
    let retry = Retry::new("api");
    let all = calls.iter().map(|script| {
        retry
            .layer()
            .classify(ErrorsAsFailures)
            .layer(script.service())
            .oneshot(0)
    });
    futures::future::join_all(all).await;
    let mut waits: Vec<_> = calls.iter().flat_map(Script::waits).collect();
    waits.sort_unstable();
    assert!(
        waits.first() < waits.last() && waits.last() <= Some(&100),
        "{waits:?}"
    );
}
