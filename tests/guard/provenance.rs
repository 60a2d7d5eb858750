//! A rejection from a policy below is known for what it is; no classifier is asked.

use crate::support::*;
use buttress::{ErrorsAsFailures, GuardLayer, Kind, Outcome, Rejected, guard::End};
use std::{sync::Arc, time::Duration};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// How a guard sees the end of a call that a guard below it refuses like that.
async fn seen(refusal: Rejected) -> End {
    let (above, below) = (Log::default(), Spy::new("below", &Log::default()));
    below.0.refuse(refusal);
    let classifier = |_: Result<&usize, &E>| -> Outcome { panic!("asked about a rejection") };
    let service = ServiceBuilder::new()
        .layer(GuardLayer::new(Spy::new("above", &above)).classify(classifier))
        .layer(GuardLayer::new(below).classify(classifier))
        .service(Steps(Log::default()));
    assert_eq!(service.oneshot(1).await, Err(E::Rejected(refusal)));
    match above.take()[..] {
        [("above", Admit), ("above", Settle(end))] => end,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_rejection_from_below_says_depends_on_its_kind() {
    let (refused, failed) = (Outcome::Refused, Outcome::Failure);
    let overloaded = Outcome::Overloaded { retry_after: None };
    for (kind, outcome) in [
        // Not this service, or only a part of it.
        (Kind::CircuitOpen, refused),
        (Kind::RateLimited, refused),
        (Kind::Throttled, refused),
        (Kind::NotReady, refused),
        // It was never sent.
        (Kind::DeadlineExceeded, refused),
        // This very service.
        (Kind::Overloaded, overloaded),
        (Kind::LoadFailed, failed),
    ] {
        let refusal = Rejected::new(kind, "below");
        assert_eq!(seen(refusal).await, End::Done(outcome), "{kind}");
        // How long a policy of ours asks to stay away is not the service's word.
        let refusal = refusal.with_retry_after(Duration::from_secs(3));
        assert_eq!(seen(refusal).await, End::Done(outcome), "{kind}");
    }
    for kind in [Kind::TimedOut, Kind::DeadlineExceeded] {
        let late = Rejected::new(kind, "below").having_reached_service();
        assert_eq!(
            seen(late).await,
            End::TimedOut,
            "{kind}: the operator's limit"
        );
        assert_eq!(
            seen(late.by_callers_limit()).await,
            End::Cancelled,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_rejection_that_the_service_itself_answers_with_is_the_classifiers_business() {
    let log = Log::default();
    let inner = service_fn(async |_: usize| Err::<usize, _>(E::Rejected(overloaded())));
    let service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_eq!(service.oneshot(1).await, Err(E::Rejected(overloaded())));
    let failure = End::Done(Outcome::Failure);
    assert_eq!(log.take(), [("a", Admit), ("a", Settle(failure))]);
}

#[tokio::test]
async fn a_rejection_that_was_swallowed_in_an_earlier_poll_is_forgotten() {
    let (log, below) = (Log::default(), Spy::new("below", &Log::default()));
    below.0.refuse(overloaded());
    let below = Arc::new(GuardLayer::new(below).classify(ErrorsAsFailures));
    let inner = service_fn(move |_: usize| {
        let below = below.clone();
        async move {
            let refused = below.layer(Steps(Log::default())).call(1).await;
            assert_eq!(refused, Err(E::Rejected(overloaded())));
            tokio::task::yield_now().await;
            Err::<usize, _>(E::Boom)
        }
    });
    let service = GuardLayer::new(Spy::new("a", &log))
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_eq!(service.oneshot(1).await, Err(E::Boom));
    let failure = End::Done(Outcome::Failure);
    assert_eq!(
        log.take(),
        [("a", Admit), ("a", Suspend), ("a", Settle(failure))]
    );
}

#[tokio::test]
async fn a_rejection_by_a_policy_above_says_nothing_about_the_calls_below() {
    let (log, above) = (Log::default(), Spy::new("above", &Log::default()));
    let service = ServiceBuilder::new()
        .layer(GuardLayer::new(above.clone()).classify(ErrorsAsFailures))
        .layer(GuardLayer::new(Spy::new("a", &log)).classify(ErrorsAsFailures))
        .service(Steps(Log::default()));
    above.0.refuse(overloaded());
    assert!(service.clone().oneshot(1).await.is_err());
    assert!(log.take().is_empty());
    // Nor does it cling to the thread.
    above.0.refuse(None);
    assert_eq!(service.oneshot(0).await, Err(E::Boom));
    let failure = End::Done(Outcome::Failure);
    assert_eq!(log.take(), [("a", Admit), ("a", Settle(failure))]);
}
