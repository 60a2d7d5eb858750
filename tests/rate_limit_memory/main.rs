//! What a key costs in memory, everything included: in a test of its own, because it counts bytes.
#![cfg(feature = "rate-limit")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

use allocation_counter::measure;
use buttress::{
    Now, RateLimiter, Time,
    guard::{Admission, Guard},
    rate_limit::Algorithm,
};
use std::time::Duration;

const KEYS: u64 = 1_000_000;

#[test]
fn a_million_keys_stay_within_what_the_docs_say_and_known_keys_allocate_nothing() {
    let gcra = Algorithm::Gcra { burst: 5 };
    for (name, quota, algorithm, most) in [
        ("gcra", 5, gcra, 28),
        ("log of 15", 15, Algorithm::SlidingWindow, 134),
        ("counters", 100, Algorithm::SlidingWindow, 134),
    ] {
        let builder = RateLimiter::builder("memory", quota, Duration::from_secs(60));
        let builder = builder.algorithm(algorithm).keyed(|key: &u128| *key);
        let limiter = builder.build().unwrap();
        let now = Now::at(Time::from_nanos(1 << 40));
        let admitted = |key: u64| {
            let key = u128::from(key) << 64 | 7;
            matches!(limiter.admit(&key, &now), Admission::Admitted(_))
        };
        let bytes = measure(|| {
            for key in 0..KEYS {
                assert!(admitted(key));
            }
        });
        let bytes = bytes.bytes_current;
        assert_eq!(limiter.snapshot().keys, Some(KEYS as usize));
        println!("{name}: {:.1} bytes a key", bytes as f64 / KEYS as f64);
        assert!(bytes as u64 <= most * KEYS, "{name}: {bytes}");

        let later = measure(|| {
            for key in (0..KEYS).step_by(97) {
                assert_eq!(admitted(key), quota > 1);
            }
            // A flood beyond the cap takes nothing more.
            for key in KEYS..KEYS + 100_000 {
                admitted(key);
            }
        });
        assert_eq!(later.count_total, 0, "{name}");
    }
}

#[test]
fn a_key_with_a_quota_of_its_own_takes_what_the_docs_say_for_each_window() {
    let second = Duration::from_secs(1);
    let limiter = RateLimiter::builder("memory", 10, second)
        .window(1_000, 86_400 * second)
        .keyed(|key: &u64| *key)
        .quota(|_: &u64| [10, 1_000])
        .build()
        .unwrap();
    let now = Now::at(Time::from_nanos(1 << 40));
    let keys = KEYS / 10;
    let bytes = measure(|| {
        for key in 0..keys {
            assert!(matches!(limiter.admit(&key, &now), Admission::Admitted(_)));
        }
    });
    let bytes = bytes.bytes_current as f64 / keys as f64 / 2.0;
    println!("accounts: {bytes:.1} bytes a key and window");
    assert!(bytes <= 260.0, "{bytes}");
    let known = measure(|| {
        assert!(matches!(limiter.admit(&7, &now), Admission::Admitted(_)));
    });
    assert_eq!(known.count_total, 0);
}

#[test]
fn a_raised_quota_takes_memory_for_what_is_admitted_and_not_for_what_might_be() {
    let limiter = RateLimiter::new("memory", 10, Duration::from_secs(60)).unwrap();
    let bytes = measure(|| limiter.set_quota(u32::MAX).unwrap()).bytes_max;
    assert!(bytes < 1 << 20, "{bytes}");
    let now = Now::at(Time::from_nanos(1 << 40));
    for _ in 0..100_000 {
        assert!(matches!(limiter.admit(&(), &now), Admission::Admitted(_)));
    }
}

#[test]
fn a_refusal_allocates_nothing_while_somebody_waits() {
    let limiter = RateLimiter::new("memory", 100, Duration::from_secs(60)).unwrap();
    let now = Now::at(Time::from_nanos(1 << 40));
    while let Admission::Admitted(_) = limiter.admit(&(), &now) {}
    let waits = limiter.wait_up_to(Duration::MAX);
    assert!(matches!(waits.admit(&(), &now), Admission::Wait(_)));
    let refuse = || {
        assert!(matches!(limiter.admit(&(), &now), Admission::Refused(_)));
    };
    // The first one finds out what to tell them.
    refuse();
    assert_eq!(measure(|| (0..100).for_each(|_| refuse())).count_total, 0);
}
