//! Sentences of the docs that no other test holds.

use super::*;
use buttress::{
    ErrorsAsFailures,
    circuit_breaker::{Reason, State},
};
use tokio::time::advance;
use tower::{Layer, Service};

/// A call that its caller left after this time.
async fn leave(breaker: &CircuitBreaker, after: Duration) {
    let permit = start(breaker);
    advance(after).await;
    end(breaker, permit, End::Cancelled);
}

/// Has the breaker know that a success takes 100 ms.
async fn warm(breaker: &CircuitBreaker) {
    for _ in 0..8 {
        let permit = start(breaker);
        advance(100 * MILLI).await;
        end(breaker, permit, WELL);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_late_are_in_no_row_and_in_no_rate() {
    let breaker = plain().build().unwrap();
    warm(&breaker).await;
    (0..4).for_each(|_| call(&breaker, UNWELL));
    for _ in 0..10 {
        leave(&breaker, 200 * MILLI).await;
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.calls, seen.failures), (12, 4));
    assert_eq!((seen.consecutive_failures, seen.failures_total), (4, 4));
    call(&breaker, UNWELL);
    let reason = breaker.transitions().borrow().reason;
    assert_eq!(
        reason,
        Reason::ConsecutiveFailures,
        "they end no row either"
    );
}

#[tokio::test(start_paused = true)]
async fn successes_at_the_first_poll_make_nobody_late() {
    let breaker = plain().build().unwrap();
    for _ in 0..100 {
        call(&breaker, WELL);
        leave(&breaker, 900 * MILLI).await;
    }
    for _ in 0..100 {
        leave(&breaker, 900 * MILLI).await;
    }
    assert_eq!(breaker.state(), State::Closed, "no usual time is known");
    warm(&breaker).await;
    for _ in 0..20 {
        leave(&breaker, 900 * MILLI).await;
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn the_state_is_half_open_at_its_time_and_the_event_follows_with_the_next_call() {
    let breaker = plain().build().unwrap();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    let reason = || breaker.transitions().borrow().reason;
    advance(5 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(reason(), Reason::ConsecutiveFailures);
    let probe = admit(&breaker).unwrap();
    assert_eq!(reason(), Reason::WaitedOut);
    end(&breaker, probe, WELL);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_stops_observing_while_it_is_open_rejects_from_then_on() {
    let breaker = plain().observe_only(true).build().unwrap();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Open);
    call(&breaker, WELL);
    breaker.observe_only(false);
    assert_eq!(refused(&breaker), Some(5 * SECOND));
    breaker.observe_only(true);
    breaker.force_open();
    assert!(admit(&breaker).is_err(), "also if it only observes");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_ignores_abandoned_calls_counts_them_nowhere() {
    for known in [false, true] {
        let breaker = plain().ignore_abandoned().build().unwrap();
        if known {
            warm(&breaker).await;
        }
        for _ in 0..200 {
            leave(&breaker, 10 * SECOND).await;
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().failures_total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_what_was_asked_for_and_how_often_probes_have_failed() {
    let breaker = plain().build().unwrap();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    for open_for in [5, 10, 20] {
        assert_eq!(refused(&breaker), Some(open_for * SECOND));
        advance(open_for * SECOND).await;
        call(&breaker, UNWELL);
    }
    breaker.reset();
    (0..4).for_each(|_| call(&breaker, UNWELL));
    call(&breaker, overloaded(Some(50 * SECOND)));
    breaker.reset();
    (0..4).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Closed, "the row is forgotten too");
    call(&breaker, UNWELL);
    assert_eq!(refused(&breaker), Some(5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_the_window_after_nine_tenths_of_it_to_the_whole() {
    for offset in 0..200 {
        let breaker = plain().window(SECOND).minimum_calls(1).build().unwrap();
        advance(offset * MILLI).await;
        call(&breaker, WELL);
        advance(899 * MILLI).await;
        assert_eq!(breaker.snapshot().calls, 1, "{offset}");
        advance(101 * MILLI).await;
        assert_eq!(breaker.snapshot().calls, 0, "{offset}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_has_the_next_epoch_and_those_to_the_same_state_too() {
    let breaker = plain().build().unwrap();
    let epoch_after = |change: fn(&CircuitBreaker)| {
        change(&breaker);
        breaker.force_open();
        let epoch = breaker.transitions().borrow().epoch;
        breaker.reset();
        epoch
    };
    // Each round is a force, seen, and a reset; and what stands in between.
    assert_eq!(epoch_after(|_| ()), 1);
    assert_eq!(epoch_after(|_| ()), 3);
    assert_eq!(epoch_after(CircuitBreaker::reset), 6);
    assert_eq!(epoch_after(CircuitBreaker::force_closed), 9);
}

#[derive(Clone)]
struct NeverConnects;

impl Service<()> for NeverConnects {
    type Response = ();
    type Error = buttress::Error<&'static str>;
    type Future = std::future::Ready<Result<(), Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Err(buttress::Error::Service("refused")))
    }
    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_keyed_breaker_learns_nothing_from_a_service_that_is_not_ready() {
    let breakers = plain().keyed(|(): &()| 1_u64).build().unwrap();
    let mut service = breakers
        .layer()
        .classify(ErrorsAsFailures)
        .layer(NeverConnects);
    for _ in 0..20 {
        let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
        assert!(ready.is_err());
    }
    let seen = breakers.snapshot();
    assert_eq!((seen.keys, seen.failures_total, seen.open), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_unready_when_open_may_refuse_during_a_ramp() {
    let builder = plain().consecutive_failures(1).ramp(60 * SECOND).seed(1);
    let breaker = builder.build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    let mut service = breaker
        .layer()
        .classify(ErrorsAsFailures)
        .unready_when_open()
        .layer(tower::service_fn(async |()| {
            Ok::<_, buttress::Error<&str>>(())
        }));
    let mut kept_out = 0;
    for _ in 0..100 {
        let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
        assert!(ready.is_ok());
        kept_out += u32::from(service.call(()).await.is_err());
    }
    assert!((80..100).contains(&kept_out), "{kept_out}");
}
