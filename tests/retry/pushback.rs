//! When the service says when.

use crate::support::*;
use buttress::{
    Error, ErrorsAsFailures, Outcome,
    retry::{CloneRequest, Hint, Pushback, Replay, Retry},
};
use std::time::Duration;
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
    let retry = Retry::builder("api")
        .max_retry_after(30_000 * MS)
        .build()
        .unwrap();
    for (after, calls) in [(30_000 * MS, 2), (30_001 * MS, 1), (Duration::MAX, 1)] {
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.layer().classify(overloaded(after));
        let _ = layer.layer(script.service()).oneshot(0).await;
        assert_eq!(script.calls().len(), calls, "{after:?}");
    }
    assert_eq!(retry.snapshot().gave_up_total, 2);
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
}
