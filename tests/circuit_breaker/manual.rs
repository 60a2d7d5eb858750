//! Manual control, observing and events.

use super::*;
use buttress::circuit_breaker::{Mode, Reason, State, Transition};
use std::{
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn forced_open_never_times_out_and_reset_closes_and_clears() {
    let breaker = plain().build().unwrap();
    call(&breaker, UNWELL);
    breaker.force_open();
    advance(3_600 * SECOND).await;
    assert_eq!(
        (breaker.state(), breaker.snapshot().mode),
        (State::Open, Mode::ForcedOpen)
    );
    assert_eq!(refused(&breaker), None, "nobody knows when");
    breaker.reset();
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.mode),
        (State::Closed, Mode::Automatic)
    );
    assert_eq!((snapshot.calls, snapshot.consecutive_failures), (0, 0));
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Open, "the rules decide again");
}

#[tokio::test(start_paused = true)]
async fn forced_closed_never_trips_and_goes_on_counting() {
    let breaker = plain().build().unwrap();
    breaker.force_closed();
    (0..100).for_each(|_| call(&breaker, UNWELL));
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.mode),
        (State::Closed, Mode::ForcedClosed)
    );
    assert_eq!((snapshot.failures, snapshot.trips_total), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn observing_never_rejects_and_tells_of_each_trip_once() {
    let breaker = plain().observe_only(true).build().unwrap();
    let mut events = breaker.transitions();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(events.borrow_and_update().to, State::Open);
    (0..100).for_each(|_| call(&breaker, UNWELL));
    assert!(!events.has_changed().unwrap());
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.mode, snapshot.trips_total),
        (Mode::ObserveOnly, 1)
    );
    assert_eq!(
        (snapshot.rejected_total, snapshot.would_reject_total),
        (0, 100)
    );
    assert_eq!(snapshot.failures_total, 105);
    advance(5 * SECOND).await;
    let probe = start(&breaker);
    call(&breaker, UNWELL);
    assert_eq!(
        breaker.snapshot().would_reject_total,
        101,
        "the second one is no probe"
    );
    assert_eq!(breaker.state(), State::HalfOpen);
    end(&breaker, probe, UNWELL);
    breaker.observe_only(false);
    assert_eq!(
        refused(&breaker),
        Some(10 * SECOND),
        "what was observed is so"
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_observed_ramp_would_have_kept_out_teaches_nothing_even_after_it() {
    let builder = plain().observe_only(true).ramp(10 * SECOND).seed(1);
    // Quick calls, although they outlast the ramp.
    let builder = builder.slow_call_duration(60 * SECOND);
    let breaker = builder.build().unwrap();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    let kept_out: Vec<_> = (0..20).map(|_| start(&breaker)).collect();
    let would_reject = breaker.snapshot().would_reject_total;
    assert!(would_reject > 10, "{would_reject}");
    advance(10 * SECOND).await;
    call(&breaker, WELL);
    for permit in kept_out {
        end(&breaker, permit, WELL);
    }
    assert_eq!(breaker.snapshot().calls, 1 + 20 - would_reject);
}

#[tokio::test(start_paused = true)]
async fn a_change_to_the_same_state_is_no_event() {
    let breaker = plain().build().unwrap();
    let mut events = breaker.transitions();
    breaker.reset();
    breaker.force_closed();
    breaker.reset();
    assert!(!events.has_changed().unwrap());
    breaker.force_open();
    assert!(events.has_changed().unwrap());
    events.mark_unchanged();
    breaker.force_open();
    assert!(!events.has_changed().unwrap());
    let permit = start(&plain().build().unwrap());
    breaker.reset();
    end(&breaker, permit, UNWELL);
}

#[tokio::test(start_paused = true)]
async fn a_manual_change_ends_the_open_time() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    call(&breaker, UNWELL);
    breaker.force_closed();
    advance(5 * SECOND).await;
    assert_eq!(breaker.state(), State::Closed);
    breaker.reset();
    call(&breaker, UNWELL);
    breaker.force_open();
    advance(5 * SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    assert!(admit(&breaker).is_err());
    breaker.reset();
    // Nor does a probe of before the change have a say.
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    let probe = start(&breaker);
    breaker.reset();
    end(&breaker, probe, UNWELL);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn transitions_are_told_in_order_with_their_reasons() {
    use {Reason::*, State::*};

    let breaker = plain().consecutive_failures(1).build().unwrap();
    let mut events = breaker.transitions();
    assert_eq!(events.borrow().reason, Created);
    let mut seen = Vec::new();
    let mut look = || {
        assert!(events.has_changed().unwrap());
        let Transition {
            from,
            to,
            reason,
            epoch,
            ..
        } = *events.borrow_and_update();
        seen.push((from, to, reason, epoch));
    };
    call(&breaker, UNWELL);
    look();
    advance(5 * SECOND).await;
    let probe = start(&breaker);
    look();
    end(&breaker, probe, UNWELL);
    look();
    breaker.reset();
    look();
    breaker.force_open();
    look();
    assert_eq!(
        seen,
        [
            (Closed, Open, ConsecutiveFailures, 1),
            (Open, HalfOpen, WaitedOut, 2),
            (HalfOpen, Open, ProbesFailed, 3),
            (Open, Closed, Reset, 4),
            (Closed, Open, Forced, 5),
        ]
    );
    assert_eq!(
        breaker.transitions().borrow().epoch,
        5,
        "a late listener knows the last one"
    );
}

/// A task that does something the moment it is woken, on the thread that wakes it.
struct Reentrant(CircuitBreaker, Mutex<Vec<State>>);

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0.state());
        let _ = self.0.snapshot();
        if self.0.state() == State::Open {
            self.0.reset();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_call_the_breaker_from_within_its_wake_up() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    let task = Arc::new(Reentrant(breaker.clone(), Mutex::default()));
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    let mut events = breaker.transitions();
    {
        let mut changed = std::pin::pin!(events.changed());
        assert!(changed.as_mut().poll(&mut cx).is_pending());
        assert!(!breaker.poll_closed(&mut cx, &Now::lazy()));
        call(&breaker, UNWELL);
    }
    assert_eq!(task.1.lock().unwrap().first(), Some(&State::Open));
    assert_eq!(breaker.state(), State::Closed);
    let last = *events.borrow();
    assert_eq!(
        (last.to, last.reason, last.epoch),
        (State::Closed, Reason::Reset, 2)
    );
}
