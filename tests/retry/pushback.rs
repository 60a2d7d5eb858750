//! When the service says when.

use crate::support::*;
use buttress::{
    Error, ErrorsAsFailures, Outcome,
    retry::{Backoff, CloneRequest, Hint, Pushback, Replay, Retry},
};
use std::time::Duration;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

fn overloaded(after: Duration) -> impl Fn(Result<&&str, &Error<&str>>) -> Outcome + Clone {
    move |result| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Overloaded {
            retry_after: Some(after),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_never_called_before_it_asked_to_be_and_its_callers_are_spread() {
    let mut seen = Vec::new();
    for seed in 0..200 {
        let retry = Retry::builder("api").seed(seed).build().unwrap();
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.layer().classify(overloaded(5_000 * MS));
        assert_eq!(layer.layer(script.service()).oneshot(0).await, Ok("done"));
        assert!(
            retry.snapshot().budget_balance <= 9.1,
            "it costs what any retry does"
        );
        seen.extend(script.waits());
    }
    let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    assert!((5_000..5_050).contains(least), "{least}");
    assert!((5_450..=5_501).contains(most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_less_than_the_backoff_does_not_make_it_longer() {
    for seed in 0..20 {
        let backoff = exact(100 * MS).max(100 * MS);
        let retry = Retry::builder("api").seed(seed).backoff(backoff);
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.build().unwrap().layer().classify(ErrorsAsFailures);
        let layer = layer.classify(overloaded(10 * MS));
        assert_eq!(layer.layer(script.service()).oneshot(0).await, Ok("done"));
        assert_eq!(script.waits(), [100], "{seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_wants_to_be_left_alone_for_too_long_is() {
    let retry = Retry::builder("api").max_wait(30_000 * MS).build().unwrap();
    for (after, calls) in [(30_000 * MS, 2), (30_001 * MS, 1), (Duration::MAX, 1)] {
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.layer().classify(overloaded(after));
        let _ = layer.layer(script.service()).oneshot(0).await;
        assert_eq!(script.calls().len(), calls, "{after:?}");
    }
    assert_eq!(retry.snapshot().gave_up_total, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_five_seconds_by_default() {
    let retry = || Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let start = Instant::now();
    for (asked, attempts) in [(5_000 * MS, 3), (5_001 * MS, 1)] {
        let (layered, run) = (Script::new([BUSY]), Script::new([BUSY]));
        let layer = retry().layer().classify(overloaded(asked));
        let answer = layer.layer(layered.service()).oneshot(0).await;
        assert_eq!(answer, BUSY);
        let op = async || run.answer();
        let classifier = |result: Result<&&str, &Error<&str>>| overloaded(asked)(result);
        assert_eq!(retry().classify(classifier).run(op).await, BUSY);
        for script in [layered, run] {
            assert_eq!(script.calls().len(), attempts, "{asked:?}");
        }
    }
    // Two calls that wait twice each, with at most a tenth of jitter.
    assert!((20_000..22_010).contains(&start.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_the_backoff_that_is_too_long_ends_the_call_at_once() {
    let backoff = Backoff::custom(|retry, _| 30_000 * MS * (retry - 1));
    for (longest, attempts) in [(60_000 * MS, 4), (59_999 * MS, 3), (Duration::ZERO, 2)] {
        let retry = Retry::builder("api").attempts(9).max_wait(longest);
        let retry = retry.backoff(backoff.clone()).build().unwrap();
        let (layered, run) = (Script::new([BUSY]), Script::new([BUSY]));
        let layer = retry.layer().classify(ErrorsAsFailures);
        let begun = Instant::now();
        assert_eq!(layer.layer(layered.service()).oneshot(0).await, BUSY);
        assert_eq!(begun.elapsed(), *layered.calls().last().unwrap() - begun);
        assert_eq!(retry.run(async || run.answer()).await, BUSY);
        for script in [layered, run] {
            assert_eq!(script.calls().len(), attempts, "{longest:?}");
        }
        assert_eq!(retry.snapshot().gave_up_total, 2);
    }
}

/// A strategy that reads pushback out of the error's text.
#[derive(Clone)]
struct Told;
impl<Req: Clone> Replay<Req> for Told {
    type Request = Req;
    type Kept = Req;
    fn first_request(&self, req: Req) -> (Req, Option<Req>) {
        CloneRequest.first_request(req)
    }
    fn next_request(&self, kept: &mut Req, attempt: u32) -> Option<Req> {
        CloneRequest.next_request(kept, attempt)
    }
}
impl Pushback<&str, Error<&str>> for Told {
    fn hint(&self, result: Result<&&str, &Error<&str>>) -> Hint {
        match result {
            Err(Error::Service("in 70")) => Hint::Exactly(70 * MS),
            Err(Error::Service("in 6000")) => Hint::Exactly(6_000 * MS),
            Err(Error::Service("never")) => Hint::Stop,
            _ => Hint::None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pushback_is_kept_to_exactly_and_restarts_the_backoff_or_stops_it() {
    let retry = Retry::builder("api")
        .attempts(9)
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let pushed = Err(Error::Service("in 70"));
    let never = Err(Error::Service("never"));
    let script = Script::new([BUSY, BUSY, BUSY, pushed, BUSY, BUSY, never, Ok("done")]);
    let answer = retry
        .layer()
        .replay(Told)
        .classify(ErrorsAsFailures)
        .layer(script.service())
        .oneshot(0)
        .await;
    assert_eq!(answer, never);
    assert_eq!(script.waits(), [10, 20, 40, 70, 10, 20]);

    let later = Err(Error::Service("in 6000"));
    let script = Script::new([BUSY, later]);
    let layer = retry.layer().replay(Told).classify(ErrorsAsFailures);
    let answer = layer.layer(script.service()).oneshot(0).await;
    assert_eq!((answer, script.waits()), (later, vec![10]));
}
