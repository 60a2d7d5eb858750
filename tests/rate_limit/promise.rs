//! No window, wherever it starts, admits more than the quota: checked against an independent exact
//! log, over random schedules and over bursts at the edges of windows and sub-windows.

use buttress::{
    Now, RateLimiter, Time,
    guard::{Admission, End, Guard, Never},
    rate_limit::Algorithm,
};
use proptest::{collection::vec, prelude::*};
use std::time::Duration;

/// Key and cost.
type Req = (u8, u32);

pub(crate) const WINDOW: u64 = 1_000_000_007;
const HOUR: u64 = 3_600_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) gap: Gap,
    pub(crate) key: u8,
    pub(crate) cost: u32,
    /// How many calls of this cost at this moment.
    pub(crate) burst: u16,
    /// Which of the permits held so far is given back, if any.
    pub(crate) give_back: Option<u16>,
}

#[derive(Clone, Debug)]
pub(crate) enum Gap {
    Some(u64),
    /// So many sub-windows (of this many per window), and this much more or less.
    Edge(u64, u64, i64),
    Back(u64),
}

impl Gap {
    /// The time after this gap.
    pub(crate) fn after(&self, clock: u64) -> u64 {
        match *self {
            Self::Some(gap) => clock + gap,
            Self::Edge(per, n, by) => {
                let sub = WINDOW.div_ceil(per);
                let edge = ((clock / sub + n) * sub).saturating_add_signed(by);
                clock.max(edge)
            }
            Self::Back(_) => clock,
        }
    }
}

fn gap() -> impl Strategy<Value = Gap> {
    let per_window = prop_oneof![
        Just(1_u64),
        Just(14),
        Just(19),
        Just(29),
        Just(59),
        Just(64)
    ];
    prop_oneof![
        3 => Just(Gap::Some(0)),
        3 => (0..WINDOW / 20).prop_map(Gap::Some),
        1 => (0..3 * WINDOW).prop_map(Gap::Some),
        4 => (per_window, 0..70_u64, -1..=1_i64).prop_map(|(per, n, by)| Gap::Edge(per, n, by)),
        1 => (0..WINDOW / 3).prop_map(Gap::Back),
        1 => Just(Gap::Some(7 * 3_600 * 1_000_000_000)),
    ]
}

pub(crate) fn steps(most: u32) -> impl Strategy<Value = Vec<Step>> {
    let give_back = proptest::option::weighted(0.2, any::<u16>());
    let cost = prop_oneof![3 => Just(1), 2 => 1..=most];
    let burst = prop_oneof![3 => Just(1_u16), 1 => 1..60_u16];
    let step =
        (gap(), 0..3_u8, cost, burst, give_back).prop_map(|(gap, key, cost, burst, give_back)| {
            Step {
                gap,
                key,
                cost,
                burst,
                give_back,
            }
        });
    vec(step, 1..120)
}

/// Whoever measures it: the time that has been reached, and what was admitted when.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Vec<(u64, Req)>);

impl Log {
    pub(crate) fn within(&self, key: u8, now: u64, window: u64) -> u64 {
        let counted = |(at, req): &&(u64, Req)| req.0 == key && now - at < window;
        self.0
            .iter()
            .filter(counted)
            .map(|(_, req)| u64::from(req.1))
            .sum()
    }

    /// The most that any window has admitted: every window's last admission is some admission.
    fn worst(&self, window: u64) -> u64 {
        let ending = |(at, req): &(u64, Req)| {
            let before = self.0.iter().filter(|(before, _)| before <= at);
            Self(before.copied().collect()).within(req.0, *at, window)
        };
        self.0.iter().map(ending).max().unwrap_or(0)
    }
}

/// `late` is how much longer than it must an admission may be counted.
fn check<G>(limiter: &G, quota: u32, late: u64, keys: u8, steps: &[Step])
where
    G: Guard<Req, Wait = Never>,
{
    let mut clock = 1_u64 << 40;
    let mut log = Log::default();
    let mut held = Vec::new();
    for step in steps {
        clock = step.gap.after(clock);
        match step.gap {
            Gap::Some(_) | Gap::Edge(..) => {}
            Gap::Back(gap) => {
                let key = step.key % keys;
                if log.within(key, clock, WINDOW) == u64::from(quota) {
                    let before = Now::at(Time::from_nanos(clock - gap));
                    let admission = limiter.admit(&(key, 1), &before);
                    assert!(matches!(admission, Admission::Refused(_)), "{gap} back");
                }
            }
        }
        let now = Now::at(Time::from_nanos(clock));
        if let Some(i) = step.give_back
            && !held.is_empty()
        {
            let (at, req, permit) = held.swap_remove(usize::from(i) % held.len());
            limiter.settle(permit, End::NeverStarted, &now);
            let i = log.0.iter().position(|entry| *entry == (at, req)).unwrap();
            log.0.remove(i);
        }
        let req = (step.key % keys, step.cost);
        for _ in 0..step.burst {
            match limiter.admit(&req, &now) {
                Admission::Admitted(permit) => {
                    log.0.push((clock, req));
                    held.push((clock, req, permit));
                    assert!(log.within(req.0, clock, WINDOW) <= u64::from(quota));
                }
                Admission::Refused(rejected) => {
                    let counted = log.within(req.0, clock, WINDOW + late);
                    let fits = counted + u64::from(req.1) <= u64::from(quota);
                    assert!(!fits, "refused {req:?} with {counted} of {quota} used");
                    let fits = req.1 <= quota;
                    assert_eq!(rejected.retry_after().is_some(), fits);
                    break;
                }
                Admission::Wait(never) => match never {},
            }
        }
    }
    assert!(log.worst(WINDOW) <= u64::from(quota));
}

fn window() -> Duration {
    Duration::from_nanos(WINDOW)
}

fn global(quota: u32) -> impl Guard<Req, Wait = Never> {
    let builder = RateLimiter::builder("global", quota, window());
    builder.cost(|req: &Req| req.1).build().unwrap()
}

fn keyed(quota: u32) -> impl Guard<Req, Wait = Never> {
    let builder = RateLimiter::builder("keyed", quota, window());
    let builder = builder.keyed(|req: &Req| req.0).cost(|req: &Req| req.1);
    builder.build().unwrap()
}

/// Sub-windows: one that is counted for too long, and what rounding its length up adds.
fn late(per_window: u64) -> u64 {
    WINDOW.div_ceil(per_window) + per_window
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_global_log_keeps_the_promise_and_refuses_nothing_that_fits(steps in steps(4), quota in 1..40_u32) {
        check(&global(quota), quota, 0, 1, &steps);
    }

    #[test]
    fn the_global_counters_keep_the_promise_and_give_out_the_whole_quota(steps in steps(700), quota in 1_025..2_000_u32) {
        check(&global(quota), quota, late(64), 1, &steps);
    }

    #[test]
    fn the_keyed_log_keeps_the_promise_and_refuses_nothing_that_fits(steps in steps(4), quota in 1..=15_u32) {
        check(&keyed(quota), quota, 0, 1, &steps);
        check(&keyed(quota), quota, 0, 3, &steps);
    }

    #[test]
    fn the_keyed_counters_keep_the_promise(steps in steps(9), quota in 16..60_u32) {
        check(&keyed(quota), quota, late(59), 1, &steps);
        check(&keyed(quota), quota, late(59), 3, &steps);
    }

    #[test]
    fn the_keyed_counters_of_two_bytes_keep_the_promise(steps in steps(200), quota in 250..600_u32) {
        let per_window = if quota < 256 { 59 } else { 29 };
        check(&keyed(quota), quota, late(per_window), 1, &steps);
        check(&keyed(quota), quota, late(per_window), 3, &steps);
    }

    #[test]
    fn the_keyed_counters_of_three_bytes_keep_the_promise(steps in steps(40_000), quota in 65_536..90_000_u32) {
        check(&keyed(quota), quota, late(19), 1, &steps);
        check(&keyed(quota), quota, late(19), 3, &steps);
    }

    #[test]
    fn the_keyed_counters_of_four_bytes_keep_the_promise(steps in steps(20_000_000), quota in 1_u32 << 24..1 << 25) {
        check(&keyed(quota), quota, late(14), 1, &steps);
        check(&keyed(quota), quota, late(14), 3, &steps);
    }

    #[test]
    fn the_keyed_log_of_a_long_window_keeps_the_promise_to_the_billionth(
        gaps in vec(prop_oneof![0..50_000_u64, 0..400_000_000_000_u64, HOUR - 5_000..HOUR + 5_000], 1..80),
        quota in 1..=15_u32,
    ) {
        let builder = RateLimiter::builder("long", quota, Duration::from_nanos(HOUR));
        let limiter = builder.keyed(|req: &Req| req.0).cost(|req: &Req| req.1).build().unwrap();
        let (mut now, mut log) = (1_u64 << 40, Log::default());
        for gap in gaps {
            now += gap;
            let within = |window| log.within(0, now, window);
            match limiter.admit(&(0, 1), &Now::at(Time::from_nanos(now))) {
                Admission::Admitted(_) => {
                    assert!(within(HOUR) < quota.into());
                    log.0.push((now, (0, 1)));
                }
                Admission::Refused(rejected) => {
                    assert!(within(HOUR + HOUR / 1_000_000_000) >= quota.into());
                    let then = now + rejected.retry_after().unwrap().as_nanos() as u64;
                    assert!(log.within(0, then, HOUR) < quota.into());
                }
                Admission::Wait(never) => match never {},
            }
        }
    }
}

/// A burst at the end of a window and another at the beginning of the next, at every offset.
#[test]
fn bursts_on_both_sides_of_an_edge_never_exceed_the_quota() {
    for (quota, is_keyed) in [
        (100, false),
        (2_000, false),
        (15, true),
        (100, true),
        (1_000, true),
        (70_000, true),
        (20_000_000, true),
    ] {
        for offset in (0..WINDOW).step_by(WINDOW as usize / 67) {
            let limiter: &dyn Fn(&[Step]) = &|steps| match is_keyed {
                true => check(&keyed(quota), quota, 2 * WINDOW, 1, steps),
                false => check(&global(quota), quota, 2 * WINDOW, 1, steps),
            };
            let burst = |gap| Step {
                gap,
                key: 0,
                cost: quota.div_ceil(100),
                burst: 210,
                give_back: None,
            };
            limiter(&[
                burst(Gap::Edge(1, 1, -1)),
                burst(Gap::Some(offset)),
                burst(Gap::Some(WINDOW / 2)),
                burst(Gap::Edge(1, 1, 0)),
            ]);
        }
    }
}

fn admitted<G: Guard<Req, Wait = Never>>(limiter: &G, now: u64) -> bool {
    matches!(
        limiter.admit(&(0, 1), &Now::at(Time::from_nanos(now))),
        Admission::Admitted(_)
    )
}

/// Poisson arrivals at `load` times the quota: the share of the quota that is used.
fn used<G: Guard<Req, Wait = Never>>(limiter: &G, quota: u32, load: f64) -> f64 {
    let (mut seed, mut now, mut count) = (0x9e37_79b9_7f4a_7c15_u64, 0.0, 0_u32);
    let windows = (100_000.0 / f64::from(quota)).clamp(12.0, 400.0).round();
    let mean = WINDOW as f64 / (f64::from(quota) * load);
    while now < windows * WINDOW as f64 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        now -= mean * (((seed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64).ln();
        count += u32::from(admitted(limiter, (1 << 40) + now as u64));
    }
    f64::from(count) / (windows * f64::from(quota))
}

#[test]
fn random_arrivals_at_one_and_a_half_times_the_quota_get_nearly_all_of_it() {
    let measured = [
        ("global log", 0.975, used(&global(100), 100, 1.5)),
        ("global counters", 0.96, used(&global(2_000), 2_000, 1.5)),
        ("keyed log of 15", 0.90, used(&keyed(15), 15, 1.5)),
        ("keyed, 1 byte", 0.96, used(&keyed(100), 100, 1.5)),
        ("keyed, 2 bytes of 300", 0.94, used(&keyed(300), 300, 1.5)),
        (
            "keyed, 2 bytes of 10,000",
            0.94,
            used(&keyed(10_000), 10_000, 1.5),
        ),
        ("keyed, 3 bytes", 0.96, used(&keyed(65_536), 65_536, 1.5)),
    ];
    for (name, least, used) in measured {
        println!("{name}: {used:.3}");
        assert!((least..=1.0 + 1.0 / 12.0).contains(&used), "{name}: {used}");
    }
}

#[test]
fn whoever_waits_as_told_is_admitted_and_the_exact_logs_tell_no_more_than_that() {
    const MS: u64 = 1_000_000;
    for (quota, is_keyed, exact) in [
        (5, false, true),
        (1_500, false, false),
        (5, true, true),
        (40, true, false),
        (1_000, true, false),
        (66_000, true, false),
        (17_000_000, true, false),
    ] {
        let window = Duration::from_secs(1);
        for start in (0..1_000).step_by(37) {
            for cost in [1, 2, quota / 2, quota] {
                let builder = RateLimiter::builder("wait", quota, window);
                let builder = builder.cost(|req: &Req| req.1);
                let (a, b);
                let limiter: &dyn Fn(u32, u64) -> Result<(), Duration> = if is_keyed {
                    a = builder.keyed(|req: &Req| req.0).build().unwrap();
                    &move |cost, ms| ask(&a, cost, ms)
                } else {
                    b = builder.build().unwrap();
                    &move |cost, ms| ask(&b, cost, ms)
                };
                let mut at = start;
                while limiter(quota.div_ceil(5), at).is_ok() {
                    at += 1 + start % 90;
                }
                // Whatever is left over.
                while limiter(quota.div_ceil(100), at).is_ok() {}
                while limiter(1, at).is_ok() {}
                let wait = limiter(cost, at).unwrap_err().as_millis() as u64;
                if exact {
                    assert!(
                        limiter(cost, at + wait - 1).is_err(),
                        "{quota} {cost} at {at}"
                    );
                }
                assert!(
                    limiter(cost, at + wait).is_ok(),
                    "{quota} {cost} at {at} + {wait}"
                );
            }
        }
    }
    fn ask<G: Guard<Req, Wait = Never>>(limiter: &G, cost: u32, ms: u64) -> Result<(), Duration> {
        match limiter.admit(
            &(0, cost),
            &Now::at(Time::from_nanos((1 << 40) / MS * MS + ms * MS)),
        ) {
            Admission::Admitted(_) => Ok(()),
            Admission::Refused(rejected) => Err(rejected.retry_after().unwrap()),
            Admission::Wait(never) => match never {},
        }
    }
}

#[test]
fn gcra_admits_a_burst_and_then_its_rate_and_no_more_than_both_in_a_window() {
    let algorithm = Algorithm::Gcra { burst: 10 };
    let builder = || RateLimiter::builder("paced", 100, window()).algorithm(algorithm);
    let (global, keyed) = (
        builder().build().unwrap(),
        builder().keyed(|req: &Req| req.0).build().unwrap(),
    );
    let count = |ask: &dyn Fn(u64) -> bool| {
        let times = (0..WINDOW).step_by(500_000);
        times.filter(|t| ask((1 << 40) + t)).count()
    };
    for admitted in [
        count(&|t| admitted(&global, t)),
        count(&|t| admitted(&keyed, t)),
    ] {
        assert!((109..=110).contains(&admitted), "{admitted}");
    }
}
