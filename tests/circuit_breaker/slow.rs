//! Slow calls, and calls that never end.

use super::*;
use buttress::circuit_breaker::{Reason, State};
use tokio::time::advance;

fn by_slowness() -> CircuitBreakerBuilder {
    plain().slow_call_rate(0.5).minimum_calls(10)
}

#[tokio::test(start_paused = true)]
async fn slow_successes_alone_trip_it() {
    let breaker = by_slowness().build().unwrap();
    for n in 0..10 {
        assert_eq!(breaker.state(), State::Closed);
        let permit = start(&breaker);
        advance(if n % 2 == 0 { 250 * MILLI } else { 249 * MILLI }).await;
        end(&breaker, permit, WELL);
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.transitions().borrow().reason, Reason::SlowCallRate);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (
            snapshot.slow_calls,
            snapshot.slow_calls_total,
            snapshot.failures_total
        ),
        (5, 5, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_told_but_trip_nothing_unless_there_is_a_rate() {
    let breaker = plain().build().unwrap();
    for _ in 0..50 {
        let permit = start(&breaker);
        advance(SECOND / 4).await;
        end(&breaker, permit, WELL);
    }
    assert_eq!(
        (breaker.state(), breaker.snapshot().slow_calls_total),
        (State::Closed, 50)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_hangs_trips_it_before_any_call_has_ended() {
    let breaker = by_slowness().build().unwrap();
    let mut running = Vec::new();
    while breaker.state() == State::Closed {
        running.push(start(&breaker));
        advance(20 * MILLI).await;
        assert!(running.len() < 100, "it never noticed");
    }
    // Ten are slow after 10 * 20 + 250 ms, seen to an eighth of 250 ms.
    assert!((22..=26).contains(&running.len()), "{}", running.len());
    assert_eq!(breaker.transitions().borrow().reason, Reason::SlowCallRate);
    // They belong to the past.
    assert_eq!(breaker.snapshot().in_flight_slow, 0);
    running
        .into_iter()
        .for_each(|permit| end(&breaker, permit, UNWELL));
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (
            snapshot.state,
            snapshot.in_flight_slow,
            snapshot.trips_total
        ),
        (State::Closed, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_hangs_is_noticed_however_often_the_state_has_changed() {
    let breaker = by_slowness().open_growth(1.0).build().unwrap();
    for _ in 0..5 {
        call(&breaker, UNWELL);
    }
    // Half-open and open again, each time: past all wraps of what words hold of an epoch.
    for failed_probes in [1_100, 1_000, 3_000] {
        for _ in 0..failed_probes {
            advance(5 * SECOND).await;
            call(&breaker, UNWELL);
        }
        advance(5 * SECOND).await;
        call(&breaker, WELL);
        let hung: Vec<_> = (0..10).map(|_| start(&breaker)).collect();
        advance(SECOND).await;
        assert_eq!(breaker.snapshot().in_flight_slow, 10, "{failed_probes}");
        let tripped = start(&breaker);
        assert_eq!(breaker.state(), State::Open);
        end(&breaker, tripped, UNWELL);
        hung.into_iter()
            .for_each(|permit| end(&breaker, permit, UNWELL));
    }
}

#[tokio::test(start_paused = true)]
async fn running_calls_are_counted_exactly_however_they_end() {
    let ends = [
        WELL,
        UNWELL,
        IGNORED,
        End::Cancelled,
        End::Panicked,
        End::NeverStarted,
    ];
    let builder = plain().slow_call_rate(1.0).minimum_calls(1_000);
    let breaker = builder.without_consecutive_failures().build().unwrap();
    for step in 1..200_u32 {
        let running: Vec<_> = (0..step % 7).map(|_| start(&breaker)).collect();
        let untouched = admit(&breaker).unwrap();
        advance(step * 7 * MILLI).await;
        for (n, permit) in running.into_iter().enumerate() {
            end(&breaker, permit, ends[(n + step as usize) % ends.len()]);
        }
        end(&breaker, untouched, ends[step as usize % ends.len()]);
    }
    let kept: Vec<_> = (0..3).map(|_| start(&breaker)).collect();
    assert_eq!(breaker.snapshot().in_flight_slow, 0);
    advance(SECOND).await;
    assert_eq!(breaker.snapshot().in_flight_slow, 3);
    kept.into_iter()
        .for_each(|permit| end(&breaker, permit, WELL));
    assert_eq!(breaker.snapshot().in_flight_slow, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_left_fails_after_the_time_that_was_set_for_that_and_is_not_slow() {
    let builder = plain().abandoned_after(250 * MILLI);
    let breaker = builder.slow_call_duration(100 * MILLI).build().unwrap();
    for _ in 0..100 {
        let permit = start(&breaker);
        advance(249 * MILLI).await;
        end(&breaker, permit, End::Cancelled);
        call(&breaker, End::Cancelled);
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (
            snapshot.state,
            snapshot.failures_total,
            snapshot.slow_calls_total
        ),
        (State::Closed, 0, 0)
    );
    for _ in 0..5 {
        let permit = start(&breaker);
        advance(250 * MILLI).await;
        end(&breaker, permit, End::Cancelled);
    }
    assert_eq!(breaker.state(), State::Open);
}

// The peer left 200 of 200 timeouts unnoticed. Nothing is known of the service: 30 calls, and 10 s.
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_over_a_dependency_that_hangs_opens_it_with_the_defaults() {
    let breaker = CircuitBreaker::new("db");
    for n in 0..200 {
        let call = breaker.run(async || {
            std::future::pending::<()>().await;
            Ok::<_, Rejected>(())
        });
        match tokio::time::timeout(SECOND, call).await {
            Err(_) => assert!(n < 30, "call {n} was let in"),
            Ok(Err(rejected)) => {
                assert_eq!((n, rejected.kind()), (30, Kind::CircuitOpen));
                return;
            }
            Ok(Ok(())) => unreachable!(),
        }
    }
    panic!("it never opened");
}

#[tokio::test(start_paused = true)]
async fn what_a_limit_of_ours_cuts_off_is_no_answer() {
    let builder = plain().without_consecutive_failures().failure_rate(1.0);
    for how in [End::TimedOut, UNWELL] {
        let breaker = builder.clone().build().unwrap();
        for n in 0..60 {
            let Ok(mut permit) = admit(&breaker) else {
                break;
            };
            breaker.on_pending(&mut permit, &Now::lazy());
            advance(SECOND).await;
            end(
                &breaker,
                permit,
                if n % 5 == 0 { how } else { End::Cancelled },
            );
        }
        // An answer between them, even a bad one, shows that it does not hang.
        let open = how != UNWELL;
        assert_eq!(breaker.state() == State::Open, open, "{how:?}");
    }
}
