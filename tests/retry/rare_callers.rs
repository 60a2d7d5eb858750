//! What the default budget is worth to callers with few calls: the rows of the table in the docs of
//! `Budget`, in virtual time.

use crate::support::*;
use buttress::retry::{Budget, Retry};
use std::{
    cell::Cell,
    ops::{Range, RangeInclusive},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Numbers in `[0, 1)`, the same for a seed.
struct Dice(Cell<u64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }
    fn unit(&self) -> f64 {
        // SplitMix64.
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Makes this many calls, one in each `pause`, and returns the share that fails.
async fn lost(
    budget: Budget,
    seed: u64,
    (calls, pause): (u32, Duration),
    mut fails: impl FnMut() -> bool,
) -> f64 {
    let retry = Retry::builder("rare").seed(seed).budget(budget);
    let retry = retry.build().unwrap();
    let begin = Instant::now();
    let mut lost = 0;
    for call in 0..calls {
        sleep_until(begin + call * pause).await;
        let answer = retry.run(|| {
            let failed = fails();
            async move { if failed { BUSY } else { Ok("done") } }
        });
        lost += u32::from(answer.await.is_err());
    }
    f64::from(lost) / f64::from(calls)
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_at_random_cost_hardly_more_than_without_a_budget() {
    let cases: [(f64, Duration, Range<f64>, Range<f64>); 4] = [
        (0.3, MINUTE, 0.022..0.032, 0.022..0.032),
        (0.3, SECOND, 0.022..0.034, 0.022..0.032),
        (0.5, MINUTE, 0.123..0.147, 0.115..0.135),
        (0.5, SECOND, 0.132..0.160, 0.115..0.135),
    ];
    for seed in 1..3 {
        for (rate, pause, default, unlimited) in &cases {
            for (budget, within) in [(Budget::new(), default), (Budget::unlimited(), unlimited)] {
                let dice = Dice::new(seed);
                let share = lost(budget, seed, (10_000, *pause), || dice.unit() < *rate).await;
                assert!(within.contains(&share), "{rate} {pause:?} {seed}: {share}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_call_is_too_few_to_stop_after_and_a_third_gains_little() {
    for seed in 1..3 {
        for (stop_after, within) in [(1, 0.18..0.22), (2, 0.123..0.147), (3, 0.115..0.138)] {
            let budget = Budget::builder().stop_after(stop_after).build().unwrap();
            let dice = Dice::new(seed);
            let share = lost(budget, seed, (10_000, MINUTE), || dice.unit() < 0.5).await;
            assert!(within.contains(&share), "{stop_after} {seed}: {share}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_retry_in_five_seconds_is_too_few_beside_a_dead_instance() {
    for (free, within) in [(0.2, 0.35..=0.39), (1.0, 0.0..=0.0)] {
        let budget = Budget::builder().free_per_second(free).build().unwrap();
        let mut turn = false;
        let fails = || {
            turn = !turn;
            turn
        };
        let within: RangeInclusive<f64> = within;
        let share = lost(budget, 1, (5_000, SECOND), fails).await;
        assert!(within.contains(&share), "{free}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_instances_may_be_dead_for_a_caller_of_a_call_a_second() {
    for (pause, within) in [
        (MINUTE, 0.0..=0.0),
        (SECOND, 0.0..=0.0),
        // More than a tenth and one a second can pay for.
        (SECOND / 10, 0.38..=0.46),
    ] {
        let mut turn = false;
        let fails = || {
            turn = !turn;
            turn
        };
        let within: RangeInclusive<f64> = within;
        let share = lost(Budget::new(), 1, (5_000, pause), fails).await;
        assert!(within.contains(&share), "{pause:?}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_stale_connections_every_ten_minutes_fail_nothing() {
    let mut attempt = 0;
    let fails = || {
        attempt += 1;
        attempt % 3 != 0
    };
    let share = lost(Budget::new(), 1, (144, 10 * MINUTE), fails).await;
    assert_eq!(share, 0.0);
}

/// Returns how many of 200 transactions are given up: ten writers of one row, whose transactions
/// fail if another one was committed since they began.
async fn given_up(budget: Budget, seed: u64) -> usize {
    let retry = Retry::builder("row").seed(seed).attempts(50).budget(budget);
    let retry = retry.build().unwrap();
    let (version, dice) = (Cell::new(0_u32), Dice::new(seed));
    let writer = async || {
        let mut given_up = 0;
        for _ in 0..20 {
            let commit = retry.run(async || {
                let read = version.get();
                sleep(MS.mul_f64(5.0 + 10.0 * dice.unit())).await;
                if version.get() != read {
                    return Err("could not serialize access");
                }
                version.set(read + 1);
                Ok(())
            });
            given_up += usize::from(commit.await.is_err());
        }
        given_up
    };
    let all = futures::future::join_all((0..10).map(|_| writer()));
    all.await.iter().sum()
}

#[tokio::test(start_paused = true)]
async fn transactions_that_conflict_need_a_budget_without_limit() {
    for seed in 1..6 {
        assert_eq!(given_up(Budget::unlimited(), seed).await, 0);
        let with_default = given_up(Budget::new(), seed).await;
        assert!(with_default > 100, "{with_default}");
    }
}
