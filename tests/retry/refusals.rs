//! What a policy below refused.

use crate::support::*;
use buttress::guard::OnResponse;
use buttress::{
    Error, ErrorsAsFailures, Guard, GuardBase, GuardLayer, Kind, Now, Rejected,
    guard::{Admission, End, Never, WaitProgress},
    retry::Retry,
};
use futures::FutureExt;
use tower::{Layer, ServiceExt};

/// A guard that refuses everything.
struct Shut(Kind);
impl GuardBase for Shut {
    type Permit = ();
    type Wait = Never;
    fn settle(&self, (): (), _: End, _: &Now) {}
    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
}
impl<Req> Guard<Req> for Shut {
    fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
        Admission::Refused(Rejected::new(self.0, "shut").with_retry_after(MS))
    }
    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut std::task::Context<'_>,
        _: &Now,
    ) -> WaitProgress<()> {
        match *wait {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_from_below_is_passed_on_and_costs_nothing() {
    for kind in [
        Kind::CircuitOpen,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Throttled,
        Kind::DeadlineExceeded,
        Kind::NotReady,
    ] {
        let retry = Retry::new("api");
        let script = Script::new([Ok("never called")]);
        let guarded =
            GuardLayer::settling(Shut(kind), OnResponse(ErrorsAsFailures)).layer(script.service());
        let answer = retry
            .layer()
            .classify(ErrorsAsFailures)
            .layer(guarded)
            .oneshot(0)
            .now_or_never()
            .unwrap();
        assert!(
            matches!(answer, Err(Error::Rejected(r)) if r.kind() == kind),
            "{kind}"
        );
        let seen = retry.snapshot();
        assert_eq!(
            (
                seen.failed_attempts_total,
                seen.retries_total,
                seen.gave_up_total
            ),
            (0, 0, 0)
        );
        assert_eq!((seen.budget_balance, script.calls().len()), (10.0, 0));

        let shut = Shut(kind);
        let run = retry.run(async || {
            let inside = async || Ok::<_, Error<&str>>("never called");
            buttress::guard::run(&shut, &(), inside).await
        });
        assert!(matches!(run.now_or_never(), Some(Err(Error::Rejected(_)))));
        assert_eq!(retry.snapshot().budget_balance, 10.0);
        // Nor are these two calls lost: the budget still pays.
        assert_eq!(retry.run(async || BUSY).now_or_never(), None);
    }
}
