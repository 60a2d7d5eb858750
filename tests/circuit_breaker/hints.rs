//! A dependency that says when to come back, and what is made of that.

use super::*;
use buttress::{
    Error, Throttle,
    circuit_breaker::{Reason, State},
};
use tokio::time::advance;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(start_paused = true)]
async fn one_users_quota_does_not_close_the_service_to_everybody_for_a_day() {
    let breaker = plain().build().unwrap();
    call(&breaker, overloaded(Some(DAY)));
    (0..1_000).for_each(|_| call(&breaker, WELL));
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(refused(&breaker), Some(5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn any_success_cancels_a_wait_however_it_is_counted() {
    for count_window in [false, true] {
        for (waited_for, slow) in [(false, false), (true, false), (true, true)] {
            let builder = plain().slow_call_rate(1.0);
            let builder = if count_window {
                builder.count_window(30)
            } else {
                builder
            };
            let breaker = builder.build().unwrap();
            // Others that were looked at just now, and a failure in between, change nothing.
            (0..20).for_each(|_| call(&breaker, WELL));
            call(&breaker, overloaded(Some(DAY)));
            call(&breaker, UNWELL);
            call(&breaker, IGNORED);
            let permit = if waited_for {
                start(&breaker)
            } else {
                admit(&breaker).unwrap()
            };
            advance(if slow { SECOND } else { MILLI }).await;
            end(&breaker, permit, WELL);
            (0..5).for_each(|_| call(&breaker, UNWELL));
            assert_eq!(refused(&breaker), Some(5 * SECOND), "{waited_for} {slow}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_believed_for_as_long_as_is_set() {
    for (builder, open) in [
        (plain(), 60 * SECOND),
        (plain().max_open_for(90 * SECOND), 90 * SECOND),
        (plain().max_retry_after(600 * SECOND), 600 * SECOND),
        (plain().max_retry_after(Duration::ZERO), 5 * SECOND),
        (plain().max_retry_after(Duration::MAX), DAY),
    ] {
        let breaker = builder.build().unwrap();
        call(&breaker, overloaded(Some(DAY)));
        (0..5).for_each(|_| call(&breaker, UNWELL));
        assert_eq!(refused(&breaker), Some(open));
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_a_policy_further_in_is_not_the_dependencys() {
    let breaker = plain().build().unwrap();
    let inner = plain()
        .open_for(600 * SECOND)
        .max_open_for(600 * SECOND)
        .build()
        .unwrap();
    (0..5).for_each(|_| call(&inner, UNWELL));
    let limiter = buttress::RateLimiter::new("quota", 1, 600 * SECOND).unwrap();
    let throttle = Throttle::new("throttle");
    for _ in 0..10 {
        let well = async || Ok::<_, Error<&str>>(());
        let _ = breaker.run(async || inner.run(well).await).await;
        let _ = breaker.run(async || limiter.run(well).await).await;
        let _ = breaker.run(async || throttle.run(well).await).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    // None of their successes is the last word either.
    let _ = breaker
        .run(async || limiter.run(async || Ok::<_, Error<&str>>(())).await)
        .await;
    (0..5).for_each(|_| call(&breaker, UNWELL));
    assert_eq!(refused(&breaker), Some(5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_a_ramp_says_when_the_coin_may_fall_otherwise() {
    let builder = plain().consecutive_failures(1).ramp(60 * SECOND).seed(1);
    let breaker = builder.build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    call(&breaker, WELL);
    let waits: Vec<_> = (0..200).filter_map(|_| admit(&breaker).err()).collect();
    assert!(waits.len() > 100);
    let tenth = Some(6 * SECOND);
    assert!(waits.iter().all(|refused| refused.retry_after() == tenth));
    advance(53 * SECOND).await;
    let left = loop {
        if let Err(rejected) = admit(&breaker) {
            break rejected.retry_after();
        }
    };
    assert_eq!(left, Some(SECOND), "no longer than the ramp");
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_said_when_to_come_back_is_left_alone_until_then() {
    for opt_in in [false, true] {
        let builder = if opt_in {
            plain().open_when_overloaded(60 * SECOND)
        } else {
            plain()
        };
        let breaker = builder.build().unwrap();
        let on_its_way = start(&breaker);
        let mut reached = 0;
        for n in 0..300 {
            match admit(&breaker) {
                Ok(permit) => {
                    reached += 1;
                    end(&breaker, permit, overloaded(Some(30 * SECOND)));
                }
                Err(rejected) => {
                    let left = 30 * SECOND - n * 50 * MILLI;
                    assert_eq!(rejected.retry_after(), Some(left));
                }
            }
            advance(50 * MILLI).await;
        }
        assert_eq!(reached, if opt_in { 1 } else { 300 });
        if !opt_in {
            continue;
        }
        assert_eq!(breaker.transitions().borrow().reason, Reason::Overloaded);
        // A good answer to a call that was on its way says nothing of new ones.
        end(&breaker, on_its_way, WELL);
        assert_eq!(refused(&breaker), Some(15 * SECOND));
        advance(15 * SECOND).await;
        call(&breaker, WELL);
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_kept_is_bounded_and_never_shorter_than_asked() {
    let builder = CircuitBreaker::builder("partner").open_when_overloaded(10 * SECOND);
    for seed in 0..50 {
        for (asked, least) in [(DAY, 10 * SECOND), (4 * SECOND, 4 * SECOND)] {
            let breaker = builder.clone().seed(seed).build().unwrap();
            call(&breaker, overloaded(Some(asked)));
            let wait = admit(&breaker).unwrap_err().retry_after().unwrap();
            assert!(wait >= least && wait <= least * 12 / 10, "{wait:?}");
        }
    }
    let breaker = builder.build().unwrap();
    call(&breaker, overloaded(None));
    call(&breaker, overloaded(Some(Duration::ZERO)));
    call(&breaker, WELL);
    assert_eq!(breaker.state(), State::Closed, "no wait was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_a_load_shed_of_ours_refuses_has_not_reached_the_dependency() {
    let breaker = plain().consecutive_failures(1).build().unwrap();
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    for _ in 0..3 {
        call(&breaker, overloaded(None));
        assert_eq!(breaker.state(), State::HalfOpen);
        advance(SECOND).await;
    }
    call(&breaker, UNWELL);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_full_dependency_is_probed_when_it_said_and_closes_at_its_second_such_answer() {
    for (asked, waits) in [
        (Some(30 * SECOND), 30 * SECOND),
        (None, SECOND),
        (Some(MILLI), SECOND),
        (Some(DAY), 60 * SECOND),
    ] {
        for ramp in [false, true] {
            let builder = plain().consecutive_failures(1);
            let builder = if ramp {
                builder.ramp(10 * SECOND)
            } else {
                builder
            };
            let breaker = builder.build().unwrap();
            call(&breaker, UNWELL);
            advance(5 * SECOND).await;
            let probe = start(&breaker);
            end(&breaker, probe, overloaded(asked));
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(breaker.snapshot().retry_after, Some(waits));
            for _ in 0..1_000 {
                assert_eq!(refused(&breaker), Some(waits));
            }
            advance(waits).await;
            let probe = start(&breaker);
            end(&breaker, probe, overloaded(asked));
            assert_eq!(breaker.state(), State::Closed);
            let share = breaker.snapshot().admitted_share;
            assert_eq!(share < 0.2, ramp, "{share}");
            // What it asked for is over with that.
            (0..30).filter_map(|_| admit(&breaker).ok()).for_each(drop);
        }
    }
}
