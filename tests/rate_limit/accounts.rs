//! Several windows on one limiter, and quotas per key: against an independent exact log.

use super::{
    limiter::{NS, SECOND, at},
    promise::{Log, Step, WINDOW, steps},
};
use buttress::{
    Global, Now, RateLimiter, Time,
    guard::{Admission, End, Guard, GuardBase},
    rate_limit::{Algorithm, Permit},
};
use proptest::prelude::*;
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task};

/// Key, cost, and the quotas of its key.
type Req = (u8, u32, [u32; 2]);

/// The lengths of the windows.
const WINDOWS: [u64; 2] = [WINDOW, 7 * WINDOW + 5];

fn nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

fn limiter(quotas: [u32; 2], keyed: bool) -> Ask {
    let builder = RateLimiter::builder("api", quotas[0], nanos(WINDOWS[0]));
    let builder = builder.window(quotas[1], nanos(WINDOWS[1]));
    let builder = builder.cost(|req: &Req| req.1);
    if keyed {
        let limiter = builder.keyed(|req: &Req| req.0).quota(|req: &Req| req.2);
        answers(limiter.build().unwrap())
    } else {
        answers(builder.build().unwrap())
    }
}

type Ask = Box<dyn Fn(&Req, u64) -> Answer>;
type GiveBack = Box<dyn Fn()>;

enum Answer {
    Admitted(GiveBack),
    Refused(Option<Duration>),
}

fn answers<G>(limiter: G) -> Ask
where
    G: Guard<Req, Permit = Permit> + Clone + 'static,
{
    Box::new(move |req, now| {
        let limiter = limiter.clone();
        match limiter.admit(req, &Now::at(Time::from_nanos(now))) {
            Admission::Admitted(permit) => Answer::Admitted(Box::new(move || {
                limiter.settle(permit, End::NeverStarted, &Now::lazy());
            })),
            Admission::Refused(rejected) => Answer::Refused(rejected.retry_after()),
            Admission::Wait(_) => panic!("it does not wait"),
        }
    })
}

/// `late` is how much longer than it must an admission may be counted, per window. The quotas of a
/// step are those of its turn among `plans`.
fn check(
    limiter: &dyn Fn(&Req, u64) -> Answer,
    plans: &[[u32; 2]],
    late: [u64; 2],
    keys: u8,
    steps: &[Step],
) {
    let mut clock = 1_u64 << 40;
    let mut log = Log::default();
    let mut held = Vec::<(_, GiveBack)>::new();
    for (i, step) in steps.iter().enumerate() {
        clock = step.gap.after(clock);
        if let Some(back) = step.give_back
            && !held.is_empty()
        {
            let (admitted, give_back) = held.swap_remove(usize::from(back) % held.len());
            give_back();
            let entry = log.0.iter().position(|entry| *entry == admitted).unwrap();
            log.0.remove(entry);
        }
        let quotas = plans[i % plans.len()];
        let req = (step.key % keys, step.cost, quotas);
        for _ in 0..step.burst {
            let used = |late: [u64; 2]| {
                [0, 1].map(|i| log.within(req.0, clock, WINDOWS[i].saturating_add(late[i])))
            };
            match limiter(&req, clock) {
                Answer::Admitted(give_back) => {
                    for (used, quota) in used([0, 0]).iter().zip(quotas) {
                        assert!(
                            used + u64::from(req.1) <= u64::from(quota),
                            "{used} {req:?}"
                        );
                    }
                    log.0.push((clock, (req.0, req.1)));
                    held.push(((clock, (req.0, req.1)), give_back));
                }
                Answer::Refused(retry_after) => {
                    let mut used = used(late).into_iter().zip(quotas);
                    let full = used.any(|(used, quota)| used + u64::from(req.1) > quota.into());
                    assert!(full, "refused {req:?} with room in both windows");
                    let fits = quotas.iter().all(|quota| req.1 <= *quota);
                    assert_eq!(retry_after.is_some(), fits);
                    break;
                }
            }
        }
    }
}

/// Sub-windows of two forms: one may be counted in the other.
fn late(per_window: [u64; 2]) -> [u64; 2] {
    WINDOWS.map(|window| {
        let parts = per_window.iter().filter(|n| **n > 0);
        // The log counts in steps of a two-billionth of a long window.
        let log = 2 * window.div_ceil(1 << 31);
        log + parts.map(|n| window.div_ceil(*n) + n).sum::<u64>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn two_windows_keep_the_promise_and_refuse_nothing_that_both_admit(
        steps in steps(4), quotas in (1..12_u32, 1..40_u32),
    ) {
        let quotas = [quotas.0, quotas.1];
        let late = late([if quotas[1] > 15 { 59 } else { 0 }, 0]);
        check(&limiter(quotas, false), &[quotas], late, 1, &steps);
        check(&limiter([99, 99], true), &[quotas], late, 3, &steps);
    }

    #[test]
    fn two_large_windows_keep_the_promise(steps in steps(200), quotas in (250..600_u32, 600..2_000_u32)) {
        let quotas = [quotas.0, quotas.1];
        check(&limiter(quotas, false), &[quotas], late([29, 0]), 1, &steps);
        check(&limiter([1, 1], true), &[quotas], late([29, 0]), 2, &steps);
    }

    #[test]
    fn a_key_whose_quota_changes_at_every_call_is_held_to_the_one_of_the_call(
        steps in steps(9),
        plans in proptest::collection::vec((1..40_u32, 1..400_u32), 1..6),
    ) {
        let plans: Vec<_> = plans.into_iter().map(|(a, b)| [a, b]).collect();
        check(&limiter([1, 1], true), &plans, late([59, 29]), 2, &steps);
    }
}

#[test]
fn whoever_waits_as_told_is_admitted_by_all_windows() {
    for quotas in [[3, 5], [10, 30], [40, 100], [300, 1_000]] {
        let limiter = limiter(quotas, true);
        let (mut now, mut waits) = (1_u64 << 40, 0);
        for i in 0..3_000_u64 {
            let cost = 1 + (i % u64::from(quotas[0])) as u32;
            let req = (0, cost, quotas);
            if let Answer::Refused(wait) = limiter(&req, now) {
                now += wait.unwrap().as_nanos() as u64;
                waits += 1;
                assert!(
                    matches!(limiter(&req, now), Answer::Admitted(_)),
                    "{quotas:?} {i}"
                );
            }
            now += WINDOW / 97;
        }
        assert!(waits > 50, "{waits}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_is_that_of_the_window_that_has_least_left() {
    tokio::time::advance(10 * SECOND).await;
    let limiter = RateLimiter::builder("api", 2, SECOND).window(3, 60 * SECOND);
    let limiter = limiter.build().unwrap();
    let call = || at(&limiter, &(), Time::now().as_nanos());
    assert_eq!(
        (limiter.status(&()).quota, limiter.status(&()).remaining),
        (2, 2)
    );
    for _ in 0..2 {
        call().unwrap();
    }
    let refused = call().unwrap_err();
    assert_eq!(refused.retry_after(), Some(SECOND));
    tokio::time::advance(SECOND).await;
    let status = limiter.status(&());
    assert_eq!(
        (status.quota, status.remaining, status.window),
        (3, 1, 60 * SECOND)
    );
    call().unwrap();
    let wait = call().unwrap_err().retry_after().unwrap();
    assert!(
        wait > 58 * SECOND && wait <= 59 * SECOND + SECOND / 100,
        "{wait:?}"
    );
    let left: Vec<_> = limiter
        .statuses(&())
        .iter()
        .map(|s| (s.quota, s.remaining))
        .collect();
    assert_eq!(left, [(2, 1), (3, 0)]);
    let snapshot = limiter.snapshot();
    assert_eq!(
        (
            snapshot.quota,
            snapshot.admitted_total,
            snapshot.rejected_total
        ),
        (2, 3, 2)
    );
    assert_eq!((snapshot.remaining, snapshot.keys), (Some(0), None));
}

#[test]
fn each_key_has_the_quota_of_its_plan_and_what_is_left_of_it() {
    let limiter = RateLimiter::builder("api", 1, SECOND)
        .keyed(|req: &(u64, u32)| req.0)
        .quota(|req: &(u64, u32)| req.1)
        .build()
        .unwrap();
    for (key, quota) in [
        (1, 3),
        (2, 15),
        (3, 16),
        (4, 1_000),
        (5, 100_000),
        (6, 1 << 25),
    ] {
        assert_eq!(limiter.status(&(key, quota)).quota, quota);
        for _ in 0..quota.min(200) {
            assert!(at(&limiter, &(key, quota), NS).is_ok());
        }
        let left = quota - quota.min(200);
        assert_eq!(at(&limiter, &(key, quota), NS).is_ok(), left > 0);
        // Upgraded, downgraded, and blocked.
        assert!(at(&limiter, &(key, quota + 201), NS).is_ok());
        assert!(at(&limiter, &(key, 2), NS).is_err());
        assert_eq!(at(&limiter, &(key, 0), NS).unwrap_err().retry_after(), None);
    }
    assert_eq!(limiter.snapshot().keys, Some(6));
}

#[test]
fn threads_get_the_whole_quota_of_the_tighter_window_between_them_and_no_more() {
    let limiter = RateLimiter::builder("api", 5_000, SECOND).window(12_000, 60 * SECOND);
    let limiter = limiter.build().unwrap();
    for (second, left) in [5_000_u32, 5_000, 2_000, 0].into_iter().enumerate() {
        let now = (1 << 40) + 2 * second as u64 * NS;
        let admitted = AtomicU32::new(0);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for calls in 0_u32.. {
                        let Ok(permit) = at(&limiter, &(), now) else {
                            break;
                        };
                        match calls % 5 {
                            4 => limiter.settle(permit, End::NeverStarted, &Now::lazy()),
                            _ => drop(admitted.fetch_add(1, SeqCst)),
                        }
                    }
                });
            }
        });
        // A refusal may have been given while another call's part was on its way back.
        while at(&limiter, &(), now).is_ok() {
            admitted.fetch_add(1, SeqCst);
        }
        assert_eq!(admitted.load(SeqCst), left, "{second}");
    }
    assert_eq!(limiter.snapshot().admitted_total, 12_000);
}

#[test]
fn what_never_started_is_given_back_after_the_quota_was_raised() {
    for (before, after) in [(15, 200), (15, 300), (200, 300), (300, 70_000)] {
        for offset in (0..NS).step_by(NS as usize / 89) {
            let limiter = RateLimiter::builder("api", 1, SECOND)
                .keyed(|_: &(u32, u32)| 1)
                .cost(|req: &(u32, u32)| req.0)
                .quota(|req: &(u32, u32)| req.1)
                .build()
                .unwrap();
            let now = (1 << 40) + offset;
            let permit = at(&limiter, &(10, before), now).unwrap();
            at(&limiter, &(1, after), now).unwrap();
            limiter.settle(permit, End::NeverStarted, &Now::lazy());
            assert!(
                at(&limiter, &(after - 1, after), now).is_ok(),
                "{before} {after} {offset}"
            );
        }
    }
}

#[test]
fn what_is_given_back_when_it_has_left_takes_nothing_from_those_that_count() {
    for quota in [100_u32, 300, 70_000] {
        let quarter = (NS / 240) as usize;
        for late in (NS..NS + NS / 8).step_by(quarter) {
            for gap in (0..NS / 8).step_by(2 * quarter) {
                let limiter = RateLimiter::builder("api", 1, SECOND)
                    .keyed(|_: &(u32, u32)| 1)
                    .cost(|req: &(u32, u32)| req.0)
                    .quota(|req: &(u32, u32)| req.1)
                    .build()
                    .unwrap();
                let first = at(&limiter, &(10, quota), 1 << 40).unwrap();
                at(&limiter, &(quota - 10, quota), (1 << 40) + gap).unwrap();
                let now = (1 << 40) + late;
                let _ = at(&limiter, &(1, quota), now);
                limiter.settle(first, End::NeverStarted, &Now::lazy());
                // The second call counts for a window.
                if late < gap + NS {
                    assert!(
                        at(&limiter, &(11, quota), now).is_err(),
                        "{quota} {late} {gap}"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_all_windows_in_order() {
    let limiter = RateLimiter::builder("api", 2, SECOND).window(3, 10 * SECOND);
    let limiter = limiter.build().unwrap().wait_up_to(15 * SECOND);
    let start = Time::now();
    let call = || {
        let elapsed = async move || Ok::<_, buttress::Rejected>(Time::now().since(start));
        limiter.run(elapsed)
    };
    let mut calls: Vec<_> = (0..6).map(|_| task::spawn(call())).collect();
    for call in &mut calls[..2] {
        assert!(assert_ready!(call.poll()).is_ok());
    }
    for call in &mut calls[2..] {
        assert_pending!(call.poll());
    }
    // The seventh would wait for the second time that the longer window comes round.
    let refused = assert_ready!(task::spawn(call()).poll()).unwrap_err();
    assert!(refused.retry_after() > Some(19 * SECOND), "{refused:?}");
    let waited = futures::future::join_all(calls.drain(2..)).await;
    let waited: Vec<_> = waited
        .into_iter()
        .map(|answer| answer.unwrap().as_secs())
        .collect();
    assert_eq!(waited, [1, 10, 10, 11]);
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    let field = |error: Result<(), buttress::InvalidConfig>| error.unwrap_err().field();
    let windows = |n| {
        let builder = RateLimiter::builder("bad", 1, SECOND);
        let builder = (1..n).fold(builder, |builder, i| builder.window(i, i * SECOND));
        builder.build().map(|_| ())
    };
    assert!(windows(4).is_ok());
    assert_eq!(field(windows(5)), "windows");
    let builder = || RateLimiter::builder("bad", 1, SECOND);
    let bad = |quota, window| builder().window(quota, window).build().map(|_| ());
    assert_eq!(field(bad(0, SECOND)), "quota");
    assert_eq!(field(bad(1, Duration::ZERO)), "window");
    let unkeyed: Result<RateLimiter<Global, _, _>, _> = builder().quota(|_: &()| 1).build();
    assert_eq!(field(unkeyed.map(|_| ())), "quota");
    let gcra = builder().algorithm(Algorithm::Gcra { burst: 1 });
    assert_eq!(
        field(gcra.clone().window(2, SECOND).build().map(|_| ())),
        "algorithm"
    );
    let gcra = gcra.keyed(|_: &()| 1).quota(|_: &()| 1);
    assert_eq!(field(gcra.build().map(|_| ())), "algorithm");
}
