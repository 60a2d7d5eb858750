//! Looking at a key without a call, forgetting it, and requests that are exempt.

use super::limiter::{SECOND, at};
use buttress::{
    Key, Now, RateLimiter, Time,
    guard::{Admission, End, Guard, GuardBase},
    rate_limit::{Algorithm, Cost, Quota, exempt},
};
use tokio_test::{assert_pending, assert_ready, task};

/// A limiter of every kind, of quota 12 or more, for `f`.
macro_rules! every_kind {
    ($f:ident) => {
        for quota in [12_u32, 100, 2_000, 70_000] {
            let builder = || RateLimiter::builder("api", quota, SECOND);
            let builder = || builder().cost(|cost: &u32| *cost);
            let gcra = || builder().algorithm(Algorithm::Gcra { burst: quota });
            $f(builder().build().unwrap(), quota);
            $f(builder().keyed(|_: &u32| 1).build().unwrap(), quota);
            $f(gcra().build().unwrap(), quota);
            $f(gcra().keyed(|_: &u32| 1).build().unwrap(), quota);
            let two = || builder().window(10 * quota, 60 * SECOND);
            $f(two().build().unwrap(), quota);
            let plans = move |_: &u32| [quota, 10 * quota];
            $f(
                two().keyed(|_: &u32| 1).quota(plans).build().unwrap(),
                quota,
            );
        }
    };
}

#[tokio::test(start_paused = true)]
async fn a_peek_says_what_a_call_would_be_told_and_takes_nothing() {
    fn peeks<K: Key<u32>, C: Cost<u32>, Q: Quota<u32>>(limiter: RateLimiter<K, C, Q>, quota: u32) {
        let now = || Time::now().as_nanos();
        for _ in 0..3 {
            assert!(limiter.peek(&quota).is_ok());
            assert_eq!(limiter.peek(&(quota + 1)).unwrap_err().retry_after(), None);
        }
        at(&limiter, &(quota - 1), now()).unwrap();
        assert!(limiter.peek(&1).is_ok());
        let peeked = limiter.peek(&2).unwrap_err();
        assert_eq!(peeked, at(&limiter, &2, now()).unwrap_err());
        at(&limiter, &1, now()).unwrap();
        assert_eq!(
            limiter.peek(&1).unwrap_err(),
            at(&limiter, &1, now()).unwrap_err()
        );
        assert!(limiter.peek(&0).is_ok());
        assert_eq!(limiter.snapshot().rejected_total, 2);
        limiter.charge(&1, quota);
        assert_eq!(
            limiter.peek(&1).unwrap_err(),
            at(&limiter, &1, now()).unwrap_err()
        );
    }
    tokio::time::advance(100 * SECOND).await;
    every_kind!(peeks);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_reset_has_its_whole_quota_and_no_more() {
    fn resets<K: Key<u32>, C: Cost<u32>, Q: Quota<u32>>(limiter: RateLimiter<K, C, Q>, quota: u32) {
        let now = || Time::now().as_nanos();
        for debt in [0, 1, 50 * quota] {
            at(&limiter, &quota, now()).unwrap();
            limiter.charge(&1, debt);
            assert!(at(&limiter, &1, now()).is_err());
            limiter.reset(&1);
            assert_eq!(limiter.status(&1).remaining, quota);
            assert_eq!(limiter.status(&1).debt, 0);
            at(&limiter, &(quota - 1), now()).unwrap();
            at(&limiter, &1, now()).unwrap();
            assert!(at(&limiter, &1, now()).is_err());
            limiter.reset(&1);
            limiter.reset(&1);
        }
    }
    tokio::time::advance(100 * SECOND).await;
    every_kind!(resets);
}

#[test]
fn what_was_taken_before_a_reset_is_not_given_back_after_it() {
    for quota in [7_u32, 2_000] {
        let limiter = RateLimiter::builder("api", quota, SECOND).cost(|cost: &u32| *cost);
        let limiter = limiter.build().unwrap();
        let admit = |cost: u32| match limiter.admit(&cost, &Now::lazy()) {
            Admission::Admitted(permit) => Some(permit),
            _ => None,
        };
        let before = admit(5).unwrap();
        limiter.reset(&1);
        admit(quota).unwrap();
        limiter.settle(before, End::NeverStarted, &Now::lazy());
        assert!(admit(5).is_none(), "{quota}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_lets_in_who_waits_and_a_peek_stands_behind_them() {
    let limiter = RateLimiter::new("api", 1, SECOND).unwrap();
    let waits = limiter.wait_up_to(9 * SECOND);
    let call = || waits.run(async || Ok::<_, buttress::Rejected>(()));
    call().await.unwrap();
    let mut waiting = task::spawn(call());
    assert_pending!(waiting.poll());
    let peeked = limiter.peek(&()).unwrap_err();
    assert_eq!(peeked.retry_after(), Some(2 * SECOND));
    limiter.reset(&());
    assert!(waiting.is_woken());
    assert!(assert_ready!(waiting.poll()).is_ok());
    assert!(limiter.peek(&()).is_err());
}

#[test]
fn exempt_requests_are_admitted_whatever_has_been_used_and_counted_apart() {
    let cost = exempt(|req: &(bool, u32)| req.0).otherwise(|req: &(bool, u32)| req.1);
    let limiter = RateLimiter::builder("api", 10, SECOND).cost(cost);
    let limiter = limiter.build().unwrap();
    let now = Time::now().as_nanos();
    at(&limiter, &(false, 10), now).unwrap();
    for _ in 0..5 {
        at(&limiter, &(true, 10), now).unwrap();
        assert!(at(&limiter, &(false, 1), now).is_err());
    }
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.admitted_total, snapshot.exempt_total), (10, 5));
    let ones = RateLimiter::builder("api", 1, SECOND).cost(exempt(|req: &bool| *req));
    let ones = ones.build().unwrap();
    at(&ones, &false, now).unwrap();
    assert!(at(&ones, &false, now).is_err());
    at(&ones, &true, now).unwrap();
}
