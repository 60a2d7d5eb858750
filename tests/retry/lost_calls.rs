//! Which calls are lost, so that two of them in a row stop the budget.

use crate::support::*;
use buttress::{
    Error, Outcome,
    retry::{Budget, CloneRequest, Hint, Pushback, Replay, Retry},
};
use futures::FutureExt;
use std::time::Duration;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

/// A strategy that sends nothing again that is negative, and keeps to what errors say.
#[derive(Clone)]
struct Told;
impl Replay<i32> for Told {
    type Request = i32;
    type Kept = i32;
    fn first_request(&self, req: i32) -> (i32, Option<i32>) {
        (req, (req >= 0).then_some(req))
    }
    fn next_request(&self, kept: &mut i32, attempt: u32) -> Option<i32> {
        CloneRequest.next_request(kept, attempt)
    }
}
impl Pushback<&str, Error<&str>> for Told {
    fn hint(&self, result: Result<&&str, &Error<&str>>) -> Hint {
        match result {
            Err(Error::Service("never")) => Hint::Stop,
            Err(Error::Service("in an hour")) => Hint::After(Duration::from_secs(3_600)),
            _ => Hint::None,
        }
    }
}

fn classifier(result: Result<&&str, &Error<&str>>) -> Outcome {
    match result {
        Err(Error::Service("mistake")) => Outcome::Ignored,
        Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    }
}

fn retry() -> Retry {
    let retry = Retry::builder("api").backoff(exact(10 * MS));
    retry.build().unwrap()
}

/// Makes one call of the layer that is always answered so.
async fn call(retry: &Retry, req: i32, answer: Answer) -> Answer {
    let service = service_fn(move |_| std::future::ready(answer));
    let layer = retry.layer().replay(Told).classify(classifier);
    layer.layer(service).oneshot(req).await
}

/// Whether the budget still pays for a retry, which this does not use.
fn pays(retry: &Retry) -> bool {
    let wait = retry.run(async || BUSY);
    wait.now_or_never().is_none()
}

#[tokio::test(start_paused = true)]
async fn two_calls_that_fail_for_good_stop_the_budget_until_one_attempt_succeeds() {
    let retry = retry();
    for _ in 0..2 {
        assert!(pays(&retry));
        assert_eq!(call(&retry, 1, BUSY).await, BUSY);
    }
    let seen = retry.snapshot();
    assert_eq!((seen.retries_total, seen.budget_balance), (4, 6.0));
    assert!(!pays(&retry));
    assert_eq!(retry.snapshot().budget_exhausted_total, 1);
    assert_eq!(call(&retry, 1, Ok("done")).await, Ok("done"));
    assert!(pays(&retry));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_succeeds_ends_the_row_and_failures_that_are_made_good_begin_none() {
    let budget = Budget::builder().cap(100).build().unwrap();
    let retry = Retry::builder("api").budget(budget).build().unwrap();
    for _ in 0..5 {
        let script = Script::new([BUSY, BUSY, Ok("done")]);
        assert_eq!(retry.run(async || script.answer()).await, Ok("done"));
        assert_eq!(retry.run(async || BUSY).await, BUSY);
        assert!(pays(&retry));
    }
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_target_is_not_lost() {
    let cases = [
        (-1, BUSY),
        (1, Err(Error::Service("never"))),
        (1, Err(Error::Service("in an hour"))),
        (1, Err(Error::Service("mistake"))),
    ];
    for (req, answer) in cases {
        let retry = retry();
        for _ in 0..5 {
            assert_eq!(call(&retry, req, answer).await, answer);
        }
        assert!(pays(&retry), "{answer:?}");
    }
    let retry = retry();
    for _ in 0..5 {
        // Dropped while it waits.
        assert!(call(&retry, 1, BUSY).now_or_never().is_none());
    }
    assert!(pays(&retry));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_time_left_or_without_a_service_that_is_ready_is_lost() {
    use buttress::timeout::Deadline;
    let at_once = retry();
    let late = Retry::builder("api").backoff(exact(Duration::from_micros(100_200)));
    let late = late.build().unwrap();
    for (retry, deadline) in [(&at_once, 5 * MS), (&late, Duration::from_micros(100_500))] {
        for _ in 0..2 {
            assert!(pays(retry));
            let call = call(retry, 1, BUSY);
            assert_eq!(Deadline::within(deadline).scope(call).await, BUSY);
        }
        assert!(!pays(retry), "{deadline:?}");
    }

    let retry = retry();
    for _ in 0..2 {
        assert!(pays(&retry));
        let (mut service, mut handle) = mock::spawn_with(|inner: mock::Mock<i32, &str>| {
            let inner = inner.map_err(|_| Error::Service("closed"));
            retry.layer().replay(Told).classify(classifier).layer(inner)
        });
        assert_ready_ok!(service.poll_ready());
        let mut call = task::spawn(service.call(7));
        assert_pending!(call.poll());
        assert_request_eq!(handle, 7).send_error("busy");
        assert_pending!(call.poll());
        handle.send_error("broken");
        tokio::time::sleep(20 * MS).await;
        assert_eq!(assert_ready_err!(call.poll()), Error::Service("closed"));
    }
    assert!(!pays(&retry));
}
