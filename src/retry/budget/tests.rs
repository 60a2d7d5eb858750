//! What a budget pays for, call by call.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// No free retries, and no gate.
fn earning(ratio: f64, cap: u32) -> Budget {
    let builder = Budget::builder().ratio(ratio).cap(cap).free_cap(0);
    builder.stop_after(u32::MAX).build().unwrap()
}

fn drain(budget: &Budget, now: Time) -> u32 {
    let paid = std::iter::from_fn(|| budget.withdraw(now, false));
    paid.take(10_000).count() as u32
}

#[test]
fn it_starts_full_and_every_ratio_is_exact() {
    for (ratio, successes, retries) in [(0.1, 100, 10), (0.6, 5, 3), (0.2, 500, 100), (3.0, 4, 12)]
    {
        let budget = earning(ratio, 200);
        assert_eq!(drain(&budget, Time(0)), 200);
        for _ in 0..successes {
            budget.record_success();
        }
        assert_eq!(drain(&budget, Time(0)), retries, "{ratio}");
        assert_eq!(budget.balance(), 0.0);
    }
}

#[test]
fn it_never_holds_more_than_the_cap_and_takes_back_what_was_not_used() {
    let budget = earning(1000.0, 3);
    budget.record_success();
    budget.give_back(Paid::Earned);
    assert_eq!(budget.balance(), 3.0);
    let paid = budget.withdraw(Time(0), false).unwrap();
    assert_eq!(budget.balance(), 2.0);
    budget.give_back(paid);
    assert_eq!(budget.balance(), 3.0);
}

#[test]
fn free_retries_come_by_time_up_to_three_and_only_when_nothing_earned_is_left() {
    let budget = Budget::builder().cap(2).build().unwrap();
    let now = |tenths: u64| Time(5 * SECOND + tenths * SECOND / 10);
    let paid: Vec<_> = std::iter::from_fn(|| budget.withdraw(now(0), false)).collect();
    let (earned, free) = ([Paid::Earned; 2], [Paid::Free; 3]);
    assert_eq!(paid, [&earned[..], &free[..]].concat());
    assert_eq!(budget.withdraw(now(9), false), None);
    assert_eq!(budget.withdraw(now(10), false), Some(Paid::Free));
    assert_eq!(budget.withdraw(now(19), false), None);
    assert_eq!(drain(&budget, now(39)), 2);
    assert_eq!(drain(&budget, now(10_000)), 3);
}

#[test]
fn what_a_full_service_refuses_is_repeated_with_earned_retries_only() {
    let budget = Budget::builder().cap(1).build().unwrap();
    assert_eq!(budget.withdraw(Time(0), true), Some(Paid::Earned));
    assert_eq!(budget.withdraw(Time(0), true), None);
    assert_eq!(budget.withdraw(Time(0), false), Some(Paid::Free));
}

#[test]
fn a_retry_that_is_not_made_goes_back_to_where_it_came_from() {
    let budget = Budget::builder().cap(1).build().unwrap();
    let paid: Vec<_> = std::iter::from_fn(|| budget.withdraw(Time(0), false)).collect();
    budget.give_back(paid[3]);
    assert_eq!((budget.balance(), drain(&budget, Time(0))), (0.0, 1));
    budget.give_back(paid[0]);
    assert_eq!((budget.balance(), drain(&budget, Time(0))), (1.0, 1));
    // Never more than can be saved.
    for _ in 0..9 {
        budget.give_back(Paid::Free);
    }
    assert_eq!(drain(&budget, Time(9 * SECOND)), 3);
}

#[test]
fn after_two_calls_lost_in_a_row_nothing_is_paid_for_until_one_success() {
    let budget = Budget::new();
    let pays = || {
        budget
            .withdraw(Time(0), false)
            .map(|paid| budget.give_back(paid))
    };
    budget.record_lost();
    assert!(pays().is_some());
    budget.record_success();
    budget.record_lost();
    assert!(pays().is_some(), "not in a row");
    for _ in 0..1_000 {
        budget.record_lost();
        assert!(pays().is_none());
    }
    assert_eq!(budget.balance(), 10.0);
    budget.record_success();
    assert!(pays().is_some());

    let unlimited = Budget::unlimited();
    let open = Budget::builder().stop_after(u32::MAX).build().unwrap();
    for budget in [unlimited, open] {
        for _ in 0..1_000 {
            budget.record_lost();
        }
        assert!(budget.withdraw(Time(0), false).is_some());
    }
}

#[test]
fn free_retries_survive_a_clock_that_jumps() {
    let budget = Budget::builder().cap(0).build().unwrap();
    let hours = 3_600 * SECOND;
    assert_eq!(drain(&budget, Time(9 * hours)), 3, "forwards");
    assert_eq!(drain(&budget, Time(hours)), 3, "backwards");
    assert_eq!(drain(&budget, Time(hours)), 0);
    let _ = drain(&budget, Time(u64::MAX - 9));
    let to_the_end = drain(&budget, Time(u64::MAX - 9));
    assert_eq!(to_the_end, 0);
}

#[test]
fn a_full_budget_of_a_healthy_service_is_only_read() {
    let budget = Budget::new();
    let words = || {
        let state = &*budget.0;
        let free = state.free_since.load(Relaxed);
        (state.balance.load(Relaxed), free, state.lost.load(Relaxed))
    };
    let before = words();
    for _ in 0..100 {
        budget.record_success();
    }
    assert_eq!(words(), before);
}

#[test]
fn settings_that_could_not_work_are_refused() {
    for number in [-0.1, 1000.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = Budget::builder().ratio(number).build().unwrap_err();
        assert_eq!(error.field(), "ratio");
        let error = Budget::builder().free_per_second(number).build();
        assert_eq!(error.unwrap_err().field(), "free_per_second");
    }
    let error = Budget::builder().stop_after(0).build().unwrap_err();
    assert_eq!(error.field(), "stop_after");
    for number in [0.0, -0.0, 1000.0, f64::MIN_POSITIVE] {
        let extreme = Budget::builder().ratio(number).free_per_second(number);
        let extreme = extreme.cap(u32::MAX).free_cap(u32::MAX);
        let extreme = extreme.stop_after(u32::MAX).build().unwrap();
        assert!(extreme.withdraw(Time(0), false).is_some());
        let free = extreme.take_free(Time(SECOND));
        // One in more years than there will be is none.
        assert_eq!(free, number == 1000.0, "{number}");
    }
    let none = Budget::builder().cap(0).free_cap(0).build().unwrap();
    assert_eq!(none.withdraw(Time(SECOND), false), None);
}

proptest! {
    #[test]
    fn retries_never_exceed_what_was_paid_for(
        tenths in 0_u32..20, cap in 0_u32..20, rate in 0_u32..3, saved in 0_u32..4,
        stop_after in 1_u32..4, steps in prop::collection::vec((0_u8..4, 0_u64..SECOND), 1..400),
    ) {
        let ratio = f64::from(tenths) / 10.0;
        let builder = Budget::builder().ratio(ratio).cap(cap).free_per_second(f64::from(rate));
        let budget = builder.free_cap(saved).stop_after(stop_after).build().unwrap();
        let (mut now, mut successes, mut retries, mut lost) = (0, 0_u32, 0_u32, 0);
        for (what, pause) in steps {
            now += pause;
            match what {
                0 => {
                    budget.record_success();
                    (successes, lost) = (successes + 1, 0);
                }
                1 => {
                    budget.record_lost();
                    lost += 1;
                }
                2 => if budget.withdraw(Time(now), false).is_some() {
                    prop_assert!(lost < stop_after);
                    retries += 1;
                },
                _ => if let Some(paid) = budget.withdraw(Time(now), false) {
                    budget.give_back(paid);
                },
            }
            let seconds = now as f64 / SECOND as f64;
            let by_time = match saved {
                0 => 0.0,
                _ => f64::from(rate) * seconds + f64::from(saved),
            };
            let most = ratio * f64::from(successes) + f64::from(cap) + by_time;
            prop_assert!(f64::from(retries) <= most + 1e-9, "{retries} > {most}");
            prop_assert!(budget.balance() <= f64::from(cap));
        }
    }
}
