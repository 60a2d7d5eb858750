use super::limiter::{NS, SECOND, at};
use buttress::RateLimiter;

#[test]
fn a_flood_of_new_keys_neither_grows_past_the_cap_nor_resets_anybody() {
    for (quota, max_keys) in [(3, 100), (40, 5_000), (70_000, 1_000)] {
        let limiter = RateLimiter::builder("api", quota, SECOND)
            .keyed(|req: &(u64, u32)| req.0)
            .cost(|req: &(u64, u32)| req.1)
            .max_keys(max_keys)
            .build()
            .unwrap();
        // Known keys, nearly used up.
        for key in 0..50 {
            at(&limiter, &(key, quota - 1), NS).unwrap();
        }
        let mut admitted = 0;
        for key in 50..50 + 20 * max_keys as u64 {
            admitted += u64::from(at(&limiter, &(key, 1), NS + key).is_ok());
            // Whoever is new gets no more than a quota either, own slot or not.
            let all = at(&limiter, &(key, quota), NS + key);
            assert!(all.is_err());
        }
        assert!(limiter.snapshot().keys.unwrap() <= max_keys);
        assert!(admitted >= max_keys as u64 - 50);
        for key in 0..50 {
            let late = NS + 20 * max_keys as u64 + 60;
            assert!(at(&limiter, &(key, 1), late).is_ok(), "{key}");
            assert!(at(&limiter, &(key, 1), late).is_err(), "{key}");
        }
        // Two windows later all are idle, and others take their places.
        for key in 0..2 * max_keys as u64 {
            let now = 5 * NS + key * 5 * NS;
            assert!(at(&limiter, &(1 << 40 | key, quota), now).is_ok());
        }
        assert!(limiter.snapshot().keys.unwrap() <= max_keys);
    }
}

#[test]
fn a_key_that_leaves_the_shared_quota_for_one_of_its_own_does_not_start_anew() {
    // One slot, so one shard: the second key shares.
    let limiter = RateLimiter::builder("api", 4, SECOND).keyed(|key: &u8| *key);
    let limiter = limiter.max_keys(1).build().unwrap();
    at(&limiter, &1, NS).unwrap();
    let half = NS + NS / 2;
    for _ in 0..4 {
        at(&limiter, &2, half).unwrap();
    }
    assert!(at(&limiter, &3, half).is_err());
    // Key 1 is idle now, and key 2 takes its slot, with what it took while it had none.
    let later = 2 * NS + 1;
    assert!(at(&limiter, &2, later).is_err());
    assert_eq!(limiter.snapshot().keys, Some(1));
    assert!(at(&limiter, &2, half + NS).is_ok());
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
