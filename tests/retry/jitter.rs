//! Why full jitter is the default: clients that contend for one row, as in "Exponential Backoff and
//! Jitter" on the AWS architecture blog.

use crate::support::*;
use buttress::retry::{Backoff, Budget, Jitter, Retry};
use std::{cell::Cell, time::Duration};
use tokio::time::{Instant, sleep};

/// Returns how many attempts a hundred clients need that begin together, and the time that it takes
/// them in milliseconds. Each reads the row, and its write fails if another one came in between.
async fn contend(jitter: Jitter, seed: u64) -> (u32, u128) {
    let (version, attempts, dice) = (Cell::new(0_u32), Cell::new(0), Cell::new(seed));
    let network = || {
        // An LCG will do for delays of 6 to 14 ms.
        let next = dice.get().wrapping_mul(6_364_136_223_846_793_005);
        dice.set(next.wrapping_add(1_442_695_040_888_963_407));
        sleep(Duration::from_micros(6_000 + (dice.get() >> 33) % 8_000))
    };
    let (network, version, attempts) = (&network, &version, &attempts);
    let began = Instant::now();
    let clients = (0..100).map(|n| async move {
        let backoff = Backoff::exponential(5 * MS).max(2_000 * MS).jitter(jitter);
        let retry = Retry::builder("row").attempts(10_000).backoff(backoff);
        let retry = retry.budget(Budget::unlimited()).seed(seed * 1_000 + n);
        let write = async || {
            attempts.set(attempts.get() + 1);
            network().await;
            let read = version.get();
            network().await;
            if version.get() != read {
                return BUSY;
            }
            version.set(read + 1);
            Ok("written")
        };
        retry.build().unwrap().run(write).await.unwrap();
    });
    futures::future::join_all(clients).await;
    (attempts.get(), began.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn full_jitter_needs_the_fewest_calls() {
    let mut sums = Vec::new();
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::None,
    ] {
        let (mut attempts, mut millis) = (0, 0);
        for seed in 1..=10 {
            let (more, longer) = contend(jitter, seed).await;
            (attempts, millis) = (attempts + more, millis + longer);
        }
        sums.push((attempts, millis));
    }
    // Equal jitter needs as many within a hundredth, which is chance.
    let [full, equal, decorrelated, none] = sums[..] else {
        unreachable!()
    };
    assert!(full.0 * 100 <= equal.0 * 101, "{sums:?}");
    assert!(full.0 * 103 <= decorrelated.0 * 100, "{sums:?}");
    assert!(full.0 * 15 <= none.0 * 10, "{sums:?}");
    // It is not the first to be done, but nearly.
    assert!(full.1 <= equal.1 && full.1 * 10 <= none.1, "{sums:?}");
    assert!(
        decorrelated.1 < full.1 && full.1 * 10 <= decorrelated.1 * 15,
        "{sums:?}"
    );
}
