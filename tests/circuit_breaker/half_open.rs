//! Probes.

use super::*;
use buttress::circuit_breaker::{Reason, State};
use tokio::time::advance;

/// Open, with its deadline just passed.
async fn waited_out(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    let breaker = builder.consecutive_failures(1).build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    breaker
}

#[tokio::test(start_paused = true)]
async fn exactly_as_many_probes_as_allowed_pass_at_once() {
    let breaker = waited_out(plain().probes(3)).await;
    let probes: Vec<_> = (0..3).map(|_| start(&breaker)).collect();
    // Somebody may come back when a healthy probe would have ended...
    assert_eq!(refused(&breaker), Some(250 * MILLI));
    // ...and if it has not by then, when its lease ends.
    advance(SECOND).await;
    assert_eq!(refused(&breaker), Some(9 * SECOND));
    for (n, probe) in probes.into_iter().enumerate() {
        assert_eq!(breaker.state(), State::HalfOpen);
        if n < 2 {
            end(&breaker, probe, WELL);
            assert!(
                admit(&breaker).is_err(),
                "three in all, not three at a time"
            );
        } else {
            end(&breaker, probe, WELL);
        }
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_closed_breaker_starts_with_an_empty_window() {
    let builder = plain().window(100 * SECOND);
    let breaker = waited_out(builder).await;
    call(&breaker, WELL);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (
            snapshot.calls,
            snapshot.failures,
            snapshot.consecutive_failures
        ),
        (0, 0, 0)
    );
    assert_eq!((snapshot.successes_total, snapshot.failures_total), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_gives_its_place_to_the_next() {
    let breaker = waited_out(plain()).await;
    for how in [
        End::Done(Outcome::Refused),
        End::NeverStarted,
        End::Cancelled,
        End::RequestFailed,
    ] {
        let probe = admit(&breaker).unwrap();
        assert!(admit(&breaker).is_err());
        end(&breaker, probe, how);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn three_of_five_close_at_the_third_success_and_open_at_the_third_failure() {
    for (first, state) in [(WELL, State::Closed), (UNWELL, State::Open)] {
        let second = if first == WELL { UNWELL } else { WELL };
        let breaker = waited_out(plain().probes(5).probe_success_ratio(0.6)).await;
        for end in [first, second, first, second] {
            call(&breaker, end);
            assert_eq!(breaker.state(), State::HalfOpen);
        }
        call(&breaker, first);
        assert_eq!(breaker.state(), state);
    }
}

/// Open after five failures, with its deadline just passed, and so many probes whose answers have
/// begun well.
async fn answered(probes: u32, builder: CircuitBreakerBuilder) -> (CircuitBreaker, Vec<Permit>) {
    let breaker = builder.build().unwrap();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    advance(5 * SECOND).await;
    let mut permits: Vec<_> = (0..probes).map(|_| start(&breaker)).collect();
    for permit in &mut permits {
        breaker.on_answer(permit, Outcome::Success, &Now::lazy());
    }
    (breaker, permits)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_after_the_probes_have_closed_the_breaker_is_the_failure_of_any_call() {
    for probes in [1, 3] {
        for ramp in [false, true] {
            let builder = plain().probes(probes).slow_call_rate(1.0);
            let builder = if ramp {
                builder.ramp(60 * SECOND)
            } else {
                builder
            };
            let (breaker, permits) = answered(probes, builder).await;
            assert_eq!(breaker.state(), State::Closed);
            advance(20 * SECOND).await;
            let before = breaker.snapshot();
            let (last, permits) = (permits.len(), permits.into_iter());
            for (n, permit) in permits.enumerate() {
                end(&breaker, permit, UNWELL);
                let now = breaker.snapshot();
                let failed = n as u64 + 1;
                assert_eq!((now.consecutive_failures, now.failures), (failed, failed));
                assert_eq!(now.failures_total, before.failures_total + failed);
            }
            (last..5).for_each(|_| {
                assert_eq!(breaker.state(), State::Closed);
                let permit = std::iter::repeat_with(|| admit(&breaker).ok())
                    .flatten()
                    .next();
                end(&breaker, permit.unwrap(), UNWELL);
            });
            assert_eq!(breaker.state(), State::Open);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_while_other_probes_have_yet_to_decide_is_a_failed_probe() {
    let (breaker, mut permits) = answered(2, plain().probes(3)).await;
    // Who leaves while the answer is on its way takes nothing back, nor does a slow end.
    end(&breaker, permits.remove(0), End::Cancelled);
    assert_eq!(breaker.state(), State::HalfOpen);
    end(&breaker, permits.remove(0), UNWELL);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.transitions().borrow().reason, Reason::ProbesFailed);
    // If there are enough others, it closes all the same.
    let builder = plain()
        .probes(3)
        .probe_success_ratio(0.5)
        .slow_call_rate(1.0);
    let (breaker, mut permits) = answered(1, builder).await;
    end(&breaker, permits.remove(0), UNWELL);
    assert_eq!(breaker.state(), State::HalfOpen);
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::HalfOpen);
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_of_a_probe_takes_nothing_back() {
    let builder = plain().probes(3).slow_call_rate(1.0);
    let (breaker, permits) = answered(2, builder).await;
    advance(60 * SECOND).await;
    permits
        .into_iter()
        .for_each(|permit| end(&breaker, permit, WELL));
    assert_eq!(breaker.state(), State::HalfOpen);
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_a_probe_teaches_nothing_once_somebody_has_steered_the_breaker() {
    type Steer = fn(&CircuitBreaker);
    let steers: [Steer; 3] = [
        CircuitBreaker::reset,
        CircuitBreaker::force_closed,
        CircuitBreaker::force_open,
    ];
    for probes in [1, 2] {
        for steer in steers {
            let (breaker, permits) = answered(probes, plain().probes(3)).await;
            steer(&breaker);
            let before = breaker.snapshot();
            for permit in permits {
                end(&breaker, permit, UNWELL);
            }
            let after = breaker.snapshot();
            assert_eq!(after.calls, before.calls);
            assert_eq!(after.consecutive_failures, before.consecutive_failures);
            assert_eq!(after.state, before.state);
            assert_eq!(
                after.failures_total,
                before.failures_total + u64::from(probes)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn results_from_before_the_trip_do_not_count_as_probes() {
    let breaker = plain().probes(2).build().unwrap();
    let late: Vec<_> = (0..4).map(|_| start(&breaker)).collect();
    (0..5).for_each(|_| call(&breaker, UNWELL));
    advance(5 * SECOND).await;
    let probe = start(&breaker);
    for (n, permit) in late.into_iter().enumerate() {
        end(&breaker, permit, if n % 2 == 0 { WELL } else { UNWELL });
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    // No extra permit came of them either.
    let second = start(&breaker);
    assert!(admit(&breaker).is_err());
    end(&breaker, probe, WELL);
    end(&breaker, second, WELL);
    assert_eq!(breaker.state(), State::Closed);
}

// A panic is a failure everywhere, so it fails its probe; a dropped one says nothing
#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back_and_a_panicking_one_fails() {
    let breaker = waited_out(plain()).await;
    for _ in 0..100 {
        let probe = start(&breaker);
        end(&breaker, probe, End::Cancelled);
        assert_eq!(breaker.state(), State::HalfOpen);
        advance(SECOND / 4).await;
    }
    call(&breaker, End::Panicked);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.transitions().borrow().reason, Reason::ProbesFailed);
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_is_replaced_after_its_lease_and_its_result_ignored() {
    let breaker = waited_out(plain().probe_timeout(2 * SECOND)).await;
    let hung = start(&breaker);
    advance(2 * SECOND - MILLI).await;
    assert_eq!(refused(&breaker), Some(MILLI));
    advance(MILLI).await;
    let next = start(&breaker);
    end(&breaker, hung, UNWELL);
    assert_eq!(breaker.state(), State::HalfOpen);
    end(&breaker, next, WELL);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_left_fails_only_after_the_time_that_was_set_for_that() {
    for (builder, state) in [
        (plain().abandoned_after(SECOND / 4), State::Open),
        (plain().abandoned_after(SECOND), State::HalfOpen),
        (plain().ignore_abandoned(), State::HalfOpen),
        (plain(), State::HalfOpen),
    ] {
        let breaker = waited_out(builder).await;
        let probe = start(&breaker);
        advance(SECOND / 4).await;
        end(&breaker, probe, End::Cancelled);
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_has_failed_if_slowness_is_a_rule() {
    for (rule, state) in [(false, State::Closed), (true, State::Open)] {
        let builder = if rule {
            plain().slow_call_rate(0.5)
        } else {
            plain()
        };
        let breaker = waited_out(builder).await;
        let probe = start(&breaker);
        advance(250 * MILLI).await;
        end(&breaker, probe, WELL);
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn probes_spaced_wider_than_the_window_still_decide() {
    let breaker = waited_out(plain().probes(3).window(SECOND)).await;
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::HalfOpen);
        call(&breaker, WELL);
        advance(60 * SECOND).await;
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn after_closing_a_ramp_lets_in_a_growing_share_and_failures_halve_it() {
    let breaker = waited_out(plain().ramp(10 * SECOND).seed(1).without_failure_rate()).await;
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed);
    let share = |breaker: &CircuitBreaker| {
        let passed = (0..2_000).filter(|_| admit(breaker).is_ok()).count();
        passed as f64 / 2_000.0
    };
    let near = |seen: f64, expected: f64| (seen - expected).abs() < 0.04;
    assert!(near(share(&breaker), 0.1));
    advance(7 * SECOND).await;
    assert!(near(share(&breaker), 0.8), "{}", share(&breaker));
    assert!((breaker.snapshot().admitted_share - 0.8).abs() < 1e-6);
    while admit(&breaker)
        .map(|permit| end(&breaker, permit, UNWELL))
        .is_err()
    {}
    assert_eq!(
        breaker.state(),
        State::Closed,
        "one failure would trip it otherwise"
    );
    assert!((breaker.snapshot().admitted_share - 0.4).abs() < 1e-6);
    advance(6 * SECOND).await;
    assert_eq!(share(&breaker), 1.0);
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_fails_again_in_the_ramp_opens_the_breaker_at_the_least_share() {
    let breaker = waited_out(plain().ramp(10 * SECOND).seed(1)).await;
    call(&breaker, WELL);
    let mut calls = 0;
    while breaker.state() == State::Closed {
        if let Ok(permit) = admit(&breaker) {
            end(&breaker, permit, UNWELL);
            calls += 1;
        }
    }
    assert_eq!(calls, 1, "it was at a tenth already");
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_answers_only_what_is_ignored_is_back() {
    let breaker = waited_out(plain()).await;
    call(&breaker, IGNORED);
    assert_eq!(breaker.state(), State::Closed);
}

/// Ends a probe that was left after so long.
async fn leave(breaker: &CircuitBreaker, after: Duration) {
    let probe = start(breaker);
    advance(after).await;
    end(breaker, probe, End::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn the_third_late_probe_in_a_row_opens_it_again_if_a_success_is_known() {
    let known = plain().consecutive_failures(1).build().unwrap();
    let permit = start(&known);
    advance(100 * MILLI).await;
    end(&known, permit, WELL);
    call(&known, UNWELL);
    advance(5 * SECOND).await;
    for round in 0..2 {
        leave(&known, SECOND).await;
        // Those that were left early say nothing, and count nothing anew.
        leave(&known, 100 * MILLI).await;
        leave(&known, SECOND).await;
        assert_eq!(known.state(), State::HalfOpen);
        leave(&known, 200 * MILLI).await;
        assert_eq!(refused(&known), Some((10 << round) * SECOND));
        assert_eq!(known.transitions().borrow().reason, Reason::ProbesFailed);
        advance((10 << round) * SECOND).await;
    }
    call(&known, WELL);
    assert_eq!(known.state(), State::Closed);

    let unknown = waited_out(plain()).await;
    for _ in 0..100 {
        leave(&unknown, SECOND).await;
        assert_eq!(unknown.state(), State::HalfOpen);
    }
    call(&unknown, WELL);
    assert_eq!(unknown.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_that_end_at_once_and_say_nothing_do_not_let_everybody_through() {
    for how in [
        End::Done(Outcome::Refused),
        End::NeverStarted,
        End::Cancelled,
        End::RequestFailed,
    ] {
        let breaker = waited_out(plain()).await;
        let mut let_in = 0;
        for _ in 0..1_000 {
            if let Ok(probe) = admit(&breaker) {
                let_in += 1;
                end(&breaker, probe, how);
            }
            advance(MILLI).await;
        }
        assert!((8..=12).contains(&let_in), "{let_in} in a second, {how:?}");
        advance(SECOND).await;
        call(&breaker, WELL);
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_further_in_for_as_long_as_it_may_be_open_close_it() {
    let breaker = waited_out(plain().max_open_for(10 * SECOND)).await;
    for second in 0..10 {
        assert_eq!(breaker.state(), State::HalfOpen, "{second}");
        call(&breaker, End::Done(Outcome::Refused));
        advance(SECOND).await;
    }
    call(&breaker, End::NeverStarted);
    assert_eq!(breaker.state(), State::Closed);
}
