use super::limiter::{NS, SECOND, at};
use buttress::{
    Now, RateLimiter,
    guard::{End, GuardBase},
    rate_limit::{Algorithm, KeyOverflow},
};

#[test]
fn a_flood_of_new_keys_neither_grows_past_the_cap_nor_resets_anybody() {
    // Few enough that of some twenty keys that are looked at, one is not among them.
    const KNOWN: u64 = 10;
    for (quota, max_keys) in [(3, 100), (40, 5_000), (70_000, 1_000)] {
        let limiter = RateLimiter::builder("api", quota, SECOND)
            .keyed(|req: &(u64, u32)| req.0)
            .cost(|req: &(u64, u32)| req.1)
            .max_keys(max_keys)
            .build()
            .unwrap();
        // Known keys, used up: in two steps, so that the newest call is no reason to keep them.
        for key in 0..KNOWN {
            at(&limiter, &(key, quota - 1), NS).unwrap();
            at(&limiter, &(key, 1), NS).unwrap();
        }
        let mut admitted = 0;
        for key in KNOWN..KNOWN + 20 * max_keys as u64 {
            admitted += u64::from(at(&limiter, &(key, 1), NS + key).is_ok());
            // Whoever is new gets no more than a quota either, own slot or not.
            let all = at(&limiter, &(key, quota), NS + key);
            assert!(all.is_err());
        }
        assert!(limiter.snapshot().keys.unwrap() <= max_keys);
        assert_eq!(admitted, 20 * max_keys as u64, "quota {quota}");
        for key in 0..KNOWN {
            let late = NS + 20 * max_keys as u64 + 60;
            assert!(
                at(&limiter, &(key, 1), late).is_err(),
                "{key} of quota {quota}"
            );
        }
        // Two windows later all are idle, and others take their places.
        for key in 0..2 * max_keys as u64 {
            let now = 5 * NS + key * 5 * NS;
            assert!(at(&limiter, &(1 << 40 | key, quota), now).is_ok());
        }
        assert!(limiter.snapshot().keys.unwrap() <= max_keys);
    }
}

type Req = (u64, u32);
type Of<T> = fn(&Req) -> T;

/// A limiter of the second that keeps so many keys, and what its calls take.
fn small(max_keys: usize, quota: u32, overflow: KeyOverflow) -> RateLimiter<Of<u64>, Of<u32>> {
    let key: Of<u64> = |req| req.0;
    let cost: Of<u32> = |req| req.1;
    RateLimiter::builder("api", quota, SECOND)
        .keyed(key)
        .cost(cost)
        .max_keys(max_keys)
        .key_overflow(overflow)
        .build()
        .unwrap()
}

#[test]
fn a_new_key_begins_with_what_the_smallest_has_used_and_no_more_than_half_the_quota() {
    for quota in [5, 15, 100, 1_000, 70_000, 1 << 25] {
        let limiter = small(3, quota, KeyOverflow::ShareSmallest);
        let few = quota / 5;
        at(&limiter, &(1, quota), NS).unwrap();
        at(&limiter, &(2, quota), NS).unwrap();
        at(&limiter, &(3, few), NS).unwrap();
        // The third is displaced, and its count is the fourth's.
        let half = NS + NS / 2;
        assert!(at(&limiter, &(4, quota - few + 1), half).is_err());
        at(&limiter, &(4, quota - few), half).unwrap();
        assert!(at(&limiter, &(4, 1), half).is_err());
        // All have used everything: who is new has half of it, rounded up.
        assert!(at(&limiter, &(5, quota - quota / 2 + 1), half).is_err());
        at(&limiter, &(5, quota - quota / 2), half).unwrap();
        assert!(at(&limiter, &(5, 1), half).is_err());
        let snapshot = limiter.snapshot();
        assert_eq!(
            (snapshot.keys, snapshot.overflowed_total),
            (Some(3), Some(2)),
            "{quota}"
        );
    }
}

#[test]
fn a_full_table_admits_new_keys_uncounted_or_refuses_them_if_it_is_told_to() {
    for overflow in [KeyOverflow::Admit, KeyOverflow::Refuse] {
        let limiter = small(2, 4, overflow);
        at(&limiter, &(1, 1), NS).unwrap();
        at(&limiter, &(2, 4), NS).unwrap();
        for i in 0..10 {
            let answer = at(&limiter, &(3, 3), NS);
            if overflow == KeyOverflow::Admit {
                limiter.settle(answer.unwrap(), End::NeverStarted, &Now::lazy());
            } else {
                assert_eq!(answer.unwrap_err().retry_after(), Some(SECOND));
            }
            assert_eq!(limiter.snapshot().overflowed_total, Some(i + 1));
        }
        // Those that are kept are counted as ever.
        at(&limiter, &(1, 3), NS).unwrap();
        assert!(at(&limiter, &(1, 1), NS).is_err());
        assert!(at(&limiter, &(2, 1), NS).is_err());
        assert_eq!(limiter.snapshot().admitted_total, 8);
        // And whoever is new finds a place when a key is idle.
        let later = NS + NS + 1;
        at(&limiter, &(3, 4), later).unwrap();
        assert!(at(&limiter, &(3, 1), later).is_err());
    }
}

/// Half an hour after a flood that left no place, and while it goes on.
#[test]
fn a_flood_of_made_up_keys_locks_no_newcomer_out_of_a_long_window() {
    const HOUR: u64 = 3_600 * NS;
    for (quota, algorithm, calls) in [
        (10, Algorithm::SlidingWindow, 2),
        (10, Algorithm::SlidingWindow, 8),
        (100, Algorithm::SlidingWindow, 8),
        (10, Algorithm::Gcra { burst: 10 }, 8),
    ] {
        let limiter = RateLimiter::builder("api", quota, 3_600 * SECOND)
            .algorithm(algorithm)
            .keyed(|key: &u64| *key)
            .max_keys(2_000)
            .build()
            .unwrap();
        // A tenant that uses its quota, and ten tables full of keys that come once, or often.
        (0..quota).for_each(|_| assert!(at(&limiter, &0, HOUR).is_ok()));
        let mut made_up = 1_u64 << 40;
        for key in 0..20_000_u64 {
            made_up += 1;
            for _ in 0..1 + key % calls {
                let _ = at(&limiter, &made_up, HOUR + key);
            }
        }
        let half_an_hour_later = HOUR + HOUR / 2;
        for newcomer in 1..=500_u64 {
            for _ in 0..quota.div_ceil(2) {
                let admitted = at(&limiter, &newcomer, half_an_hour_later);
                assert!(admitted.is_ok(), "{newcomer} of quota {quota}");
            }
            made_up += 1;
            let _ = at(&limiter, &made_up, half_an_hour_later);
        }
        // Until the flood has been admitted as much for every key that is kept.
        if calls == 2 {
            assert!(at(&limiter, &0, half_an_hour_later).is_err());
        }
        assert_eq!(limiter.snapshot().keys, Some(2_000));
    }
}

#[test]
fn short_lived_keys_share_few_slots() {
    let limiter = RateLimiter::builder("api", 4, SECOND).keyed(|key: &u64| *key);
    let limiter = limiter.build().unwrap();
    // A thousand new keys a second, each seen once.
    for key in 0..100_000 {
        at(&limiter, &key, NS + key * 1_000_000).unwrap();
    }
    let keys = limiter.snapshot().keys.unwrap();
    assert!((1_000..4_000).contains(&keys), "{keys}");
}

#[test]
fn an_endless_window_of_callers_does_not_disturb_each_others_keys() {
    let limiter = RateLimiter::builder("api", 2, SECOND).keyed(|key: &String| key.clone());
    let limiter = limiter.build().unwrap();
    for key in ["a", "b", "c"].map(str::to_owned) {
        assert!(at(&limiter, &key, NS).is_ok());
        assert!(at(&limiter, &key, NS).is_ok());
        assert!(at(&limiter, &key, NS).is_err());
    }
    let snapshot = limiter.snapshot();
    assert_eq!(
        (
            snapshot.admitted_total,
            snapshot.rejected_total,
            snapshot.keys
        ),
        (6, 3, Some(3))
    );
}
