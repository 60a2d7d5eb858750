//! Who pays for them.

use crate::support::*;
use buttress::ErrorsAsFailures;
use buttress::retry::{Budget, Retry};
use futures::FutureExt;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_makes_no_further_call_and_gives_its_retry_back() {
    let budget = Budget::builder().cap(2).free_cap(0).build().unwrap();
    let retry = Retry::builder("api")
        .budget(budget.clone())
        .backoff(exact(1_000 * MS));
    let retry = retry.build().unwrap();
    let script = Script::new([BUSY]);
    let mut call = task::spawn(
        retry
            .layer()
            .classify(ErrorsAsFailures)
            .layer(script.service())
            .oneshot(0),
    );
    assert_pending!(call.poll());
    assert_eq!(
        budget.balance(),
        1.0,
        "a caller that waits has been counted"
    );
    drop(call);
    tokio::time::sleep(5_000 * MS).await;
    assert_eq!((script.calls().len(), budget.balance()), (1, 2.0));
    assert_eq!(retry.snapshot().retries_total, 0);

    let run = retry.run(async || script.answer());
    assert!(run.now_or_never().is_none());
    assert_eq!((script.calls().len(), budget.balance()), (2, 2.0));
}

#[test]
fn an_empty_budget_returns_the_real_error_without_a_wait() {
    let budget = Budget::builder().cap(0).free_cap(0).build().unwrap();
    let retry = Retry::builder("api").budget(budget).build().unwrap();
    let script = Script::new([BUSY]);
    let call = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(script.service())
        .oneshot(0);
    assert_eq!(call.now_or_never(), Some(BUSY));
    assert_eq!(
        retry.run(async || script.answer()).now_or_never(),
        Some(BUSY)
    );
    let seen = retry.snapshot();
    assert_eq!(
        (
            script.calls().len(),
            seen.retries_total,
            seen.budget_exhausted_total
        ),
        (2, 0, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_that_fail_at_once_no_more_come_back_than_were_paid_for() {
    let budget = Budget::builder()
        .ratio(0.2)
        .cap(200)
        .free_cap(0)
        .stop_after(u32::MAX)
        .build()
        .unwrap();
    let retry = Retry::builder("api")
        .budget(budget.clone())
        .backoff(exact(100 * MS));
    let retry = retry.build().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let layered = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service_fn(move |_: ()| {
            count.fetch_add(1, SeqCst);
            async { BUSY }
        }));
    let all = (0..1_000).map(|_| layered.clone().oneshot(()));
    let answers = futures::future::join_all(all).await;
    assert!(answers.iter().all(|answer| *answer == BUSY));
    assert_eq!((calls.load(SeqCst), budget.balance()), (1_200, 0.0));
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_handle_share_its_budget_and_so_do_handles_of_one_budget() {
    let budget = Budget::builder().cap(3).free_cap(0).build().unwrap();
    let one = Retry::builder("one")
        .budget(budget.clone())
        .build()
        .unwrap();
    let two = Retry::builder("two")
        .budget(budget.clone())
        .build()
        .unwrap();
    for retry in [&one, &one.clone(), &two] {
        let script = Script::new([BUSY]);
        let _ = retry
            .layer()
            .classify(ErrorsAsFailures)
            .layer(script.service())
            .oneshot(0)
            .await;
    }
    assert_eq!(
        (one.snapshot().retries_total, two.snapshot().retries_total),
        (3, 0)
    );
    assert_eq!(
        (two.snapshot().budget_exhausted_total, budget.balance()),
        (1, 0.0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_half_the_time_gets_a_tenth_more_calls_and_not_half() {
    let budget = Budget::builder().free_cap(0).build().unwrap();
    let retry = Retry::builder("api").budget(budget).build().unwrap();
    let answers: Vec<_> = (0..20_000)
        .map(|n| if n % 2 == 0 { BUSY } else { Ok("done") })
        .collect();
    let script = Script::new(answers);
    let service = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(script.service());
    let mut successes = 0;
    for _ in 0..4_000 {
        successes += u32::from(service.clone().oneshot(0).await.is_ok());
    }
    let most = 10 + successes / 10;
    let retries = script.calls().len() as u32 - 4_000;
    assert!(
        (most - 2..=most).contains(&retries),
        "{retries} for {successes}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unlimited_budget_pays_for_every_retry_and_says_so() {
    let retry = Retry::builder("r")
        .attempts(4)
        .budget(Budget::unlimited())
        .build()
        .unwrap();
    for _ in 0..100 {
        let failed = retry.run(async || Err::<(), _>("gone")).await;
        assert_eq!(failed, Err("gone"));
    }
    let seen = retry.snapshot();
    assert_eq!((seen.retries_total, seen.budget_exhausted_total), (300, 0));
    assert_eq!(seen.budget_balance, f64::INFINITY);
}

#[tokio::test(start_paused = true)]
async fn three_attempts_in_each_of_two_or_three_layers_are_nine_or_twenty_seven_calls() {
    let retry = || {
        let retry = Retry::builder("r").budget(Budget::unlimited());
        retry.backoff(exact(MS)).build().unwrap()
    };
    let script = Script::new([BUSY]);
    let (outer, middle, inner) = (retry(), retry(), retry());
    let twice = async || {
        middle
            .run(async || inner.run(async || script.answer()).await)
            .await
    };
    assert_eq!(twice().await, BUSY);
    assert_eq!(script.calls().len(), 9);
    assert_eq!(outer.run(twice).await, BUSY);
    assert_eq!(script.calls().len(), 9 + 27);
}
