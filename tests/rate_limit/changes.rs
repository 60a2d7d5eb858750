//! Quotas and bursts that change while calls come: against an independent exact log.

use super::{
    limiter::{SECOND, at},
    promise::{Gap, Log, Step, WINDOW, steps},
};
use buttress::{
    Key, Now, RateLimiter, Time,
    guard::{Admission, Guard},
    rate_limit::{Algorithm, Cost, Quota},
};
use proptest::{collection::vec, prelude::*};
use std::time::Duration;
use tokio_test::{assert_pending, assert_ready, task};

type Req = (u8, u32);

/// Before every third step the quota is another one. `late` is how much longer than it must an
/// admission may be counted.
async fn check<K: Key<Req>, C: Cost<Req>, Q: Quota<Req>>(
    limiter: RateLimiter<K, C, Q>,
    quotas: &[u32],
    late: u64,
    keys: u8,
    steps: &[Step],
) {
    let mut log = Log::default();
    let mut quota = limiter.snapshot().quota;
    for (i, step) in steps.iter().enumerate() {
        let gap = match step.gap {
            Gap::Back(_) => 0,
            ref gap => {
                let clock = Time::now().as_nanos();
                gap.after(clock) - clock
            }
        };
        tokio::time::advance(Duration::from_nanos(gap)).await;
        if i % 3 == 2 {
            quota = quotas[i / 3 % quotas.len()];
            limiter.set_quota(quota).unwrap();
            assert_eq!(limiter.snapshot().quota, quota);
        }
        let (now, req) = (Time::now().as_nanos(), (step.key % keys, step.cost));
        for _ in 0..step.burst {
            let with = |late: u64| log.within(req.0, now, WINDOW + late) + u64::from(req.1);
            match limiter.admit(&req, &Now::lazy()) {
                Admission::Admitted(_) => {
                    assert!(with(0) <= quota.into(), "{} of {quota}", with(0));
                    log.0.push((now, req));
                }
                Admission::Refused(rejected) => {
                    assert!(with(late) > quota.into(), "{} of {quota}", with(late));
                    assert_eq!(rejected.retry_after().is_some(), req.1 <= quota);
                    break;
                }
                Admission::Wait(never) => match never {},
            }
        }
    }
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// Counted in a sub-window of so many per window.
fn late(per_window: u64) -> u64 {
    WINDOW.div_ceil(per_window) + per_window
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_window_holds_no_more_than_the_quota_that_there_is_at_its_last_call(
        small in steps(9),
        quotas in vec(prop_oneof![1..=15_u32, 16..40_u32, 200..300_u32], 1..6),
        large in steps(900),
        high in vec(prop_oneof![900..1_100_u32, 1_100..3_000_u32, 60_000..80_000_u32], 1..6),
    ) {
        paused(async {
            for first in [1_u32, 20] {
                let builder = || {
                    let builder = RateLimiter::builder("api", first, Duration::from_nanos(WINDOW));
                    builder.cost(|req: &Req| req.1)
                };
                check(builder().build().unwrap(), &quotas, 0, 1, &small).await;
                let keyed = || builder().keyed(|req: &Req| req.0);
                let coarse = late(59) + late(29);
                check(keyed().build().unwrap(), &quotas, coarse, 3, &small).await;
                let two = keyed().window(u32::MAX, SECOND * 100);
                check(two.build().unwrap(), &quotas, coarse, 3, &small).await;
            }
            let builder = || {
                let builder = RateLimiter::builder("api", 1_500, Duration::from_nanos(WINDOW));
                builder.cost(|req: &Req| req.1)
            };
            check(builder().build().unwrap(), &high, late(64), 1, &large).await;
            let keyed = builder().keyed(|req: &Req| req.0);
            check(keyed.build().unwrap(), &high, late(29) + late(19), 2, &large).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_raised_lets_in_those_who_wait_for_any_key() {
    let limiter = RateLimiter::builder("api", 1, SECOND).keyed(|key: &u8| *key);
    let limiter = limiter.build().unwrap();
    let waits = limiter.wait_up_to(9 * SECOND);
    let call = |key: u8| {
        let waits = waits.clone();
        let op = async || Ok::<_, buttress::Rejected>(());
        async move { buttress::guard::run(&waits, &key, op).await }
    };
    for key in 0..40 {
        call(key).await.unwrap();
    }
    let mut waiting: Vec<_> = (0..40).map(|key| task::spawn(call(key))).collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.poll());
    }
    limiter.set_quota(300).unwrap();
    for waiting in &mut waiting {
        assert!(waiting.is_woken());
        assert!(assert_ready!(waiting.poll()).is_ok());
    }
    assert_eq!(limiter.snapshot().admitted_total, 80);
    assert_eq!(limiter.status(&7).remaining, 298);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_changed_keeps_what_has_been_taken() {
    let builder = RateLimiter::builder("api", 10, 10 * SECOND);
    let builder = builder.algorithm(Algorithm::Gcra { burst: 10 });
    let keyed = builder.clone().keyed(|_: &()| 1).build().unwrap();
    bursts(builder.build().unwrap());
    bursts(keyed);

    fn bursts<K: Key<()>>(limiter: RateLimiter<K>) {
        let now = || Time::now().as_nanos();
        for _ in 0..6 {
            at(&limiter, &(), now()).unwrap();
        }
        let remaining = || limiter.status(&()).remaining;
        limiter.set_burst(15).unwrap();
        assert_eq!(remaining(), 9);
        limiter.set_burst(6).unwrap();
        assert_eq!(remaining(), 0);
        let refused = at(&limiter, &(), now()).unwrap_err();
        assert_eq!(refused.retry_after(), Some(SECOND));
        // What was taken is made up for at the new rate.
        limiter.set_quota(20).unwrap();
        let refused = at(&limiter, &(), now()).unwrap_err();
        assert_eq!(refused.retry_after(), Some(SECOND / 2));
        assert_eq!(limiter.set_burst(0).unwrap_err().field(), "burst");
        let years = u32::MAX;
        assert!(limiter.set_quota(1).is_ok());
        assert_eq!(limiter.set_burst(years).unwrap_err().field(), "burst");
    }
}

#[test]
fn changes_that_make_no_sense_are_named() {
    let sliding = RateLimiter::new("api", 1, SECOND).unwrap();
    assert_eq!(sliding.set_burst(7).unwrap_err().field(), "burst");
    assert_eq!(sliding.set_quotas([7, 8]).unwrap_err().field(), "quotas");
    assert_eq!(sliding.snapshot().quota, 1);
    let two = RateLimiter::builder("api", 1, SECOND).window(2, 9 * SECOND);
    let two = two.build().unwrap();
    assert_eq!(two.set_quotas([5, 0]).unwrap_err().field(), "quota");
    two.set_quotas([5, 6]).unwrap();
    let quotas: Vec<_> = two
        .statuses(&())
        .iter()
        .map(|status| status.quota)
        .collect();
    assert_eq!(quotas, [5, 6]);
}
