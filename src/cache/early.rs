//! Whether to refresh an answer before its time: pure.
//!
//! An answer that many ask for should not be missed by all of them in the moment it goes stale. So
//! each call decides by chance whether to be the one that refreshes it early, the more likely the
//! nearer the end and the longer a load takes: Vattani, Chierichetti and Lowenstein, "Optimal
//! Probabilistic Cache Stampede Prevention" (VLDB 2015), with its β of 1. A call at `left` before
//! the end is chosen with the probability e^(-left / (β · cost)).

use std::time::Duration;

/// Where the chance is less than one in half a thousand million, nobody draws.
const NEGLIGIBLE: f64 = 20.0;

/// Whether a call that finds the answer this many nanoseconds before it goes stale refreshes it;
/// `unit` draws from `[0, 1)`.
///
/// Not to be asked in the first half of an answer's time, however slow its load: or it would be
/// loaded all the time.
#[inline]
pub(super) fn due(left: u64, cost: Duration, beta: f64, unit: impl FnOnce() -> f64) -> bool {
    let (left, scale) = (left as f64 / 1e9, cost.as_secs_f64() * beta);
    // 1 - u is in (0, 1], so the logarithm is finite.
    left <= scale * NEGLIGIBLE && scale * -(1.0 - unit()).ln() >= left
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_chance_follows_the_time_that_is_left() {
        let chance = |left: u64| {
            let cost = Duration::from_millis(500);
            let chosen = |i: &u32| due(left * MS, cost, 1.0, || f64::from(*i) / 10_000.0);
            (0..10_000).filter(chosen).count() as f64 / 10_000.0
        };
        for left in [100, 500, 1_000, 2_000] {
            let expected = (-(left as f64) / 500.0).exp();
            assert!((chance(left) - expected).abs() < 0.001, "{left}");
        }
    }

    #[test]
    fn nothing_overflows() {
        assert!(!due(u64::MAX, Duration::MAX, 1.0, || 0.0));
        assert!(due(0, Duration::MAX, 1.0, || 0.5));
        assert!(!due(MS, Duration::ZERO, 1.0, || 0.999));
        assert!(!due(MS, Duration::MAX, 0.0, || 0.999));
    }
}
