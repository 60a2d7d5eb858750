//! Where the numbers that are packed into words end.

use crate::limiter::limiters_over;
use std::time::Duration;

/// The numbers of sub-windows end before the times do, where windows are short: from there on
/// nothing is admitted that has no room, and nobody is admitted anew.
#[test]
fn where_the_numbers_of_short_windows_end_the_quota_still_holds() {
    const MS: u64 = 1_000_000;
    for parts in [1, 2, 15, 16, 31, 32, 60, 63, 64, 127, 128] {
        let last = MS.div_ceil(parts).saturating_mul((1 << 48) - 1);
        for quota in [100, 2_000, 100_000] {
            for (i, take) in limiters_over(quota, Duration::from_millis(1))
                .iter()
                .enumerate()
            {
                for begin in [last - 3 * MS, last - MS, last, last.saturating_add(3 * MS)] {
                    let steps = (0..30).map(|n| begin.saturating_add(n * MS / 10));
                    let admitted: Vec<u64> = steps
                        .flat_map(|now| [now, now])
                        .filter(|now| take(quota / 2, *now).is_ok())
                        .collect();
                    for from in &admitted {
                        let within = |now: &&u64| (*from..from.saturating_add(MS)).contains(now);
                        let calls = admitted.iter().filter(within).count();
                        // A burst besides the rate, where it is one.
                        let most = if i < 2 { 2 } else { 4 };
                        assert!(calls <= most, "{parts} {quota} {i} {begin}: {calls}");
                    }
                }
            }
        }
    }
}

/// After the last number there is no new sub-window, and so no new quota.
#[test]
fn after_the_last_number_nothing_is_admitted_anew() {
    const MS: u64 = 1_000_000;
    for quota in [2_000, 100_000] {
        let [global, keyed, ..] = limiters_over(quota, Duration::from_millis(1));
        for take in [global, keyed] {
            let times = (0..100).map(|n| u64::MAX - 1_000 * MS + n * MS);
            let admitted = times.filter(|now| take(quota / 2, *now).is_ok()).count();
            assert_eq!(admitted, 2, "{quota}");
        }
    }
}
