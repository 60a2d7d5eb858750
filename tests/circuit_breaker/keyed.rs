//! One breaker per key.

use super::*;
use buttress::circuit_breaker::{KeyedCircuitBreaker, KeyedPermit, State};
use tokio::time::advance;

fn admit<K: buttress::Key<u64>>(
    breakers: &KeyedCircuitBreaker<K>,
    key: u64,
) -> Result<KeyedPermit, Rejected> {
    match breakers.admit(&key, &Now::lazy()) {
        Admission::Admitted(permit) => Ok(permit),
        Admission::Refused(rejected) => Err(rejected),
        Admission::Wait(wait) => match wait {},
    }
}

fn call<K: buttress::Key<u64>>(breakers: &KeyedCircuitBreaker<K>, key: u64, end: End) {
    let permit = admit(breakers, key).expect("refused");
    breakers.settle(permit, end, &Now::lazy());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_does_not_take_the_others_with_it() {
    let breakers = plain().keyed(|key: &u64| *key).build().unwrap();
    for _ in 0..5 {
        call(&breakers, 1, UNWELL);
        call(&breakers, 2, WELL);
    }
    assert_eq!(
        (breakers.state(&1), breakers.state(&2)),
        (State::Open, State::Closed)
    );
    let rejected = admit(&breakers, 1).unwrap_err();
    assert_eq!(
        (rejected.policy(), rejected.retry_after()),
        ("db", Some(5 * SECOND))
    );
    assert!(admit(&breakers, 2).is_ok() && admit(&breakers, 3).is_ok());
    advance(5 * SECOND).await;
    assert_eq!(breakers.state(&1), State::HalfOpen);
    call(&breakers, 1, WELL);
    assert_eq!(breakers.state(&1), State::Closed);
    let one = breakers.snapshot_of(&1).unwrap();
    assert_eq!(
        (one.failures_total, one.trips_total, one.rejected_total),
        (5, 1, 1)
    );
    assert_eq!(breakers.snapshot_of(&99), None);
    assert_eq!(breakers.state(&99), State::Closed);
    let all = breakers.clone().snapshot();
    assert_eq!((all.keys, all.open, all.trips_total), (3, 0, 1));
    assert_eq!((all.successes_total, all.failures_total), (6, 5));
}

#[tokio::test(start_paused = true)]
async fn each_key_can_be_forced_and_reset() {
    let breakers = plain().keyed(|key: &u64| *key).build().unwrap();
    breakers.force_open(&1);
    assert_eq!(
        (breakers.state(&1), breakers.state(&2)),
        (State::Open, State::Closed)
    );
    breakers.reset(&1);
    call(&breakers, 1, WELL);
    breakers.force_closed(&1);
    (0..50).for_each(|_| call(&breakers, 1, UNWELL));
    assert_eq!(breakers.state(&1), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_stays_within_the_bound_and_spares_what_is_open_or_forced() {
    for max in [1, 3, 64, 1_000] {
        let breakers = plain()
            .keyed(|key: &u64| *key)
            .max_keys(max)
            .build()
            .unwrap();
        let ill = if max == 1 { 0 } else { 1 };
        (0..5 * ill).for_each(|_| call(&breakers, 7, UNWELL));
        if max > 64 {
            breakers.force_open(&8);
        }
        for key in 100..30_000 {
            call(&breakers, key, WELL);
        }
        let all = breakers.snapshot();
        assert!(all.keys <= max, "{} of {max}", all.keys);
        assert!(all.keys >= max / 2, "{} of {max}", all.keys);
        assert_eq!(breakers.state(&7) == State::Open, ill == 1, "{max}");
        assert_eq!(breakers.state(&8) == State::Open, max > 64);
        assert_eq!(all.evicted_open_total, 0);
        // What the forgotten ones saw is not forgotten.
        assert_eq!(all.successes_total, 29_900);
        assert_eq!(
            all.evicted_total,
            29_900 + ill + u64::from(max > 64) - all.keys as u64
        );
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_are_open_the_one_that_is_due_soonest_goes_and_is_counted() {
    let breakers = plain().keyed(|key: &u64| *key).max_keys(3).build().unwrap();
    for key in 1..=3 {
        (0..5).for_each(|_| call(&breakers, key, UNWELL));
        advance(SECOND).await;
    }
    call(&breakers, 4, WELL);
    let states: Vec<_> = (1..=4).map(|key| breakers.state(&key)).collect();
    assert_eq!(
        states,
        [State::Closed, State::Open, State::Open, State::Closed]
    );
    assert_eq!(breakers.snapshot().evicted_open_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_with_a_running_call_goes_after_an_idle_one_and_its_call_still_ends() {
    let breakers = plain().keyed(|key: &u64| *key).max_keys(2).build().unwrap();
    let running = admit(&breakers, 1).unwrap();
    for key in 2..50 {
        call(&breakers, key, WELL);
        assert!(breakers.snapshot_of(&1).is_some());
    }
    let other = admit(&breakers, 50).unwrap();
    call(&breakers, 51, WELL);
    breakers.settle(running, UNWELL, &Now::lazy());
    breakers.settle(other, UNWELL, &Now::lazy());
}

#[test]
fn threads_with_keys_of_their_own_and_shared_ones_count_exactly() {
    let breakers = plain().without_consecutive_failures().failure_rate(1.0);
    let breakers = breakers.keyed(|key: &u64| *key).build().unwrap();
    std::thread::scope(|s| {
        for t in 0..4 {
            let breakers = &breakers;
            s.spawn(move || {
                for n in 0..20_000_u64 {
                    let end = if n % 10 == 0 { UNWELL } else { WELL };
                    call(breakers, if n % 2 == 0 { 0 } else { t * 100 + n % 90 }, end);
                }
            });
        }
    });
    let all = breakers.snapshot();
    assert_eq!(
        (all.successes_total, all.failures_total, all.evicted_total),
        (72_000, 8_000, 0)
    );
    assert_eq!(breakers.snapshot_of(&0).unwrap().calls, 40_000);
}
