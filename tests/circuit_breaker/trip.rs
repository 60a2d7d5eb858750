//! When it opens, and for how long.

use super::*;
use buttress::circuit_breaker::{Reason, State};
use tokio::time::advance;

fn by_rate() -> CircuitBreakerBuilder {
    plain().without_consecutive_failures()
}

#[tokio::test(start_paused = true)]
async fn below_the_minimum_nothing_trips_and_the_call_that_completes_it_does() {
    let breaker = by_rate().minimum_calls(10).build().unwrap();
    for _ in 0..9 {
        call(&breaker, UNWELL);
        assert_eq!(breaker.state(), State::Closed);
    }
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Open);

    breaker.reset();
    for end in [UNWELL; 6].into_iter().chain([WELL; 3]) {
        call(&breaker, end);
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, WELL);
    assert_eq!(
        breaker.state(),
        State::Open,
        "6 of 10, completed by a success"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_equal_to_the_threshold_trips_and_one_below_does_not() {
    for (rate, failures, calls) in [(0.5, 10, 20), (0.1, 3, 30), (0.3, 30, 100), (1.0, 20, 20)] {
        for (failures, state) in [(failures - 1, State::Closed), (failures, State::Open)] {
            let builder = by_rate().failure_rate(rate).minimum_calls(calls);
            let breaker = builder.build().unwrap();
            (failures..calls).for_each(|_| call(&breaker, WELL));
            (0..failures).for_each(|_| call(&breaker, UNWELL));
            assert_eq!(breaker.state(), state, "{failures} of {calls} at {rate}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn successes_that_leave_the_window_can_trip_it_at_the_next_success() {
    let breaker = by_rate().minimum_calls(4).build().unwrap();
    (0..8).for_each(|_| call(&breaker, WELL));
    advance(5 * SECOND).await;
    (0..4).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Closed, "4 of 12");
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Open, "4 of 5");
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_trip_it_whatever_the_minimum_and_a_success_begins_anew() {
    let breaker = plain().without_failure_rate().build().unwrap();
    for _ in 0..10 {
        (0..4).for_each(|_| call(&breaker, UNWELL));
        call(&breaker, WELL);
    }
    (0..4).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.snapshot().consecutive_failures, 4);
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(
        breaker.transitions().borrow().reason,
        Reason::ConsecutiveFailures
    );
}

#[tokio::test(start_paused = true)]
async fn panics_are_failures() {
    let breaker = plain().build().unwrap();
    (0..5).for_each(|_| call(&breaker, End::Panicked));
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn it_probes_exactly_at_the_deadline_and_not_a_tick_earlier() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    call(&breaker, UNWELL);
    assert_eq!(refused(&breaker), Some(5 * SECOND));
    advance(5 * SECOND - Duration::from_nanos(1)).await;
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(refused(&breaker), Some(MILLI), "rounded up");
    advance(Duration::from_nanos(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().rejected_total, 2);
}

#[tokio::test(start_paused = true)]
async fn the_open_time_grows_with_failed_probes_up_to_its_cap_and_starts_over_on_closing() {
    let breaker = plain()
        .consecutive_failures(1)
        .max_open_for(15 * SECOND)
        .build()
        .unwrap();
    for _ in 0..2 {
        call(&breaker, UNWELL);
        for seconds in [5, 10, 15, 15] {
            assert_eq!(refused(&breaker), Some(seconds * SECOND));
            advance(seconds * SECOND).await;
            call(&breaker, UNWELL);
        }
        advance(15 * SECOND).await;
        call(&breaker, WELL);
        assert_eq!(breaker.state(), State::Closed);
    }
    assert_eq!(breaker.snapshot().trips_total, 10);
}

#[tokio::test(start_paused = true)]
async fn no_open_time_overflows() {
    let builder = plain().consecutive_failures(1).open_growth(1e300);
    let breaker = builder.max_open_for(Duration::MAX).build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    call(&breaker, UNWELL);
    assert!(refused(&breaker) > Some(365 * 86_400 * SECOND));
    breaker.reset();
    let breaker = plain()
        .consecutive_failures(1)
        .open_for(Duration::MAX)
        .build()
        .unwrap();
    call(&breaker, UNWELL);
    assert!(refused(&breaker).is_some());
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_open_time_both_ways_and_a_seed_repeats_it() {
    let waits = |seed| {
        let builder = plain().consecutive_failures(1).open_jitter(0.2);
        let breaker = builder.seed(seed).build().unwrap();
        let wait = || {
            breaker.reset();
            call(&breaker, UNWELL);
            refused(&breaker).unwrap()
        };
        (0..200).map(|_| wait()).collect::<Vec<_>>()
    };
    let some = waits(1);
    assert_eq!(some, waits(1));
    assert_ne!(some, waits(2));
    assert!(some.iter().all(|w| (4 * SECOND..=6 * SECOND).contains(w)));
    assert!(
        some.iter().any(|w| *w < SECOND * 43 / 10) && some.iter().any(|w| *w > SECOND * 57 / 10)
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_gap_empties_the_window_and_reading_it_needs_no_calls() {
    let breaker = by_rate().build().unwrap();
    (0..19).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.snapshot().failures, 19);
    advance(10 * SECOND).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures_total), (0, 19));
    // Ten windows later they do not complete the minimum any more.
    advance(90 * SECOND).await;
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_calls_slides_call_by_call() {
    let builder = by_rate().count_window(10);
    let breaker = builder.build().unwrap();
    (0..1_000).for_each(|_| call(&breaker, WELL));
    advance(3_600 * SECOND).await;
    (0..4).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, UNWELL);
    assert_eq!(
        breaker.state(),
        State::Open,
        "5 of the last 10, after 1000 successes"
    );
    assert_eq!(breaker.snapshot().successes_total, 1_000);
}

// Our overload never degrades anything; what it asks for is kept
#[tokio::test(start_paused = true)]
async fn overload_is_never_a_failure_but_its_wait_is_kept() {
    let breaker = plain().build().unwrap();
    for _ in 0..1_000 {
        call(&breaker, overloaded(None));
        call(&breaker, IGNORED);
    }
    assert_eq!(
        (breaker.state(), breaker.snapshot().calls),
        (State::Closed, 0)
    );
    call(&breaker, overloaded(Some(30 * SECOND)));
    advance(10 * SECOND).await;
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(
        refused(&breaker),
        Some(20 * SECOND),
        "longer than 5 s: it asked for it"
    );
    breaker.reset();
    call(&breaker, overloaded(Some(30 * SECOND)));
    call(&breaker, overloaded(Some(SECOND)));
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(
        refused(&breaker),
        Some(5 * SECOND),
        "the latest word counts"
    );
    breaker.reset();
    call(&breaker, overloaded(Some(Duration::MAX)));
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(
        refused(&breaker),
        Some(60 * SECOND),
        "believed for as long as it would be open at most"
    );
}

#[tokio::test(start_paused = true)]
async fn results_from_before_the_trip_neither_trip_again_nor_prolong_it() {
    let breaker = plain().build().unwrap();
    let late: Vec<_> = (0..50).map(|_| start(&breaker)).collect();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    let mut transitions = breaker.transitions();
    advance(SECOND).await;
    late.into_iter()
        .for_each(|permit| end(&breaker, permit, UNWELL));
    assert!(!transitions.has_changed().unwrap());
    assert_eq!(refused(&breaker), Some(4 * SECOND));
    let snapshot = breaker.snapshot();
    assert_eq!(
        (
            snapshot.trips_total,
            snapshot.calls,
            snapshot.failures_total
        ),
        (1, 5, 55)
    );
    transitions.mark_unchanged();
}

#[tokio::test(start_paused = true)]
async fn failures_far_apart_are_not_in_a_row() {
    let build = |within: Duration| {
        let builder = plain().without_failure_rate();
        let breaker = builder.consecutive_failures_within(within).build();
        breaker.unwrap()
    };
    for within in [MILLI, SECOND, 60 * SECOND] {
        let breaker = build(within);
        for _ in 0..100 {
            call(&breaker, UNWELL);
            advance(within + MILLI).await;
        }
        let snapshot = breaker.snapshot();
        assert_eq!(
            (snapshot.state, snapshot.consecutive_failures),
            (State::Closed, 1)
        );
        // Each may follow the one before it by so much.
        let breaker = build(within);
        for n in 1..=5 {
            advance(within).await;
            assert_eq!(breaker.state(), State::Closed, "{n}");
            call(&breaker, UNWELL);
        }
        assert_eq!(breaker.state(), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_seen_however_rare_the_calls_are_down_to_the_minimum_in_ten_windows() {
    // Every other call fails. So many apart, in a window of 10 s, until the 20th call trips it.
    for (apart, trips) in [(MILLI, true), (SECOND, true), (4 * SECOND, true)]
        .into_iter()
        .chain([(6 * SECOND, false), (60 * SECOND, false)])
    {
        let breaker = by_rate().minimum_calls(20).build().unwrap();
        let mut calls = 0;
        while breaker.state() == State::Closed && calls < 600 {
            call(&breaker, if calls % 2 == 0 { WELL } else { UNWELL });
            calls += 1;
            advance(apart).await;
        }
        assert_eq!(calls, if trips { 20 } else { 600 }, "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_reaches_back_no_further_than_for_its_minimum() {
    let breaker = by_rate().minimum_calls(20).build().unwrap();
    // 15 failures of 40 calls, and all well since: in the last windows there are enough.
    for n in 0..40 {
        call(&breaker, if n < 25 { WELL } else { UNWELL });
    }
    advance(15 * SECOND).await;
    (0..10).for_each(|_| call(&breaker, WELL));
    advance(11 * SECOND).await;
    for n in 0..9 {
        call(&breaker, UNWELL);
        assert_eq!(breaker.state(), State::Closed, "{n}");
    }
    // Nine failures and ten successes, with one more to complete the minimum.
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Open);
    // What it knew when it tripped is forgotten once it closes.
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    (0..18).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(breaker.state(), State::Closed);
}
