//! Costs that are known only afterwards: against an independent exact log that carries its debt.

use super::limiter::{SECOND, at};
use buttress::{
    Global, Key, Now, RateLimiter, Time,
    guard::{Admission, Guard},
    rate_limit::{Algorithm, Cost, Quota, QuotaStatus},
};
use proptest::{collection::vec, prelude::*};
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task};

/// Key and cost.
type Req = (u8, u32);

const WINDOW: u64 = 1_000_000_007;

#[derive(Clone, Copy, Debug)]
enum Step {
    Gap(u64),
    Call(u32),
    Charge(u32),
    Refund(u32),
}

fn steps(most: u32) -> impl Strategy<Value = Vec<Step>> {
    let gap = prop_oneof![
        4 => 0..WINDOW / 5,
        2 => (1..4_u64, 0..3_u64).prop_map(|(n, by)| n * WINDOW - 1 + by),
        1 => 0..60 * WINDOW,
    ];
    let step = prop_oneof![
        4 => gap.prop_map(Step::Gap),
        4 => (1..=most.div_ceil(4)).prop_map(Step::Call),
        3 => (1..=3 * most).prop_map(Step::Charge),
        1 => (1..=most).prop_map(Step::Refund),
    ];
    vec(step, 1..80)
}

/// Admissions, when they are counted, and what has found no room yet.
#[derive(Default)]
struct Exact {
    quota: u64,
    window: u64,
    entries: Vec<(u64, u64)>,
    debt: u64,
}

impl Exact {
    fn new(quota: u32, window: u64) -> Self {
        Self {
            quota: quota.into(),
            window,
            ..Self::default()
        }
    }

    fn used(&self) -> u64 {
        self.entries.iter().map(|(_, cost)| cost).sum()
    }

    fn advance(&mut self, now: u64) {
        self.entries.sort_unstable();
        while let Some(&(at, _)) = self.entries.first()
            && at + self.window <= now
        {
            self.entries.remove(0);
            self.pay(at + self.window);
        }
    }

    fn pay(&mut self, now: u64) {
        let paid = self.debt.min(self.quota - self.used());
        self.debt -= paid;
        if paid > 0 {
            self.entries.push((now, paid));
        }
        self.entries.sort_unstable();
    }

    fn fits(&self, cost: u32) -> bool {
        self.debt == 0 && self.used() + u64::from(cost) <= self.quota
    }

    fn charge(&mut self, cost: u32, now: u64) {
        self.debt += u64::from(cost);
        self.pay(now);
    }

    fn refund(&mut self, cost: u32) {
        let mut cost = u64::from(cost);
        let forgiven = cost.min(self.debt);
        self.debt -= forgiven;
        cost -= forgiven;
        for (_, counted) in &mut self.entries {
            let taken = cost.min(*counted);
            *counted -= taken;
            cost -= taken;
        }
        self.entries.retain(|(_, counted)| *counted > 0);
    }
}

/// One that is exact decides as the log does, and the others never admit what it refuses.
async fn check<K: Key<Req>, C: Cost<Req>, Q: Quota<Req>>(
    limiter: RateLimiter<K, C, Q>,
    windows: &[(u32, u64)],
    is_exact: bool,
    steps: &[Step],
) {
    let mut logs: Vec<_> = windows
        .iter()
        .map(|(quota, window)| Exact::new(*quota, *window))
        .collect();
    for step in steps {
        if let Step::Gap(gap) = step {
            tokio::time::advance(Duration::from_nanos(*gap)).await;
        }
        let now = Time::now().as_nanos();
        logs.iter_mut().for_each(|log| log.advance(now));
        match *step {
            Step::Gap(_) => {}
            Step::Charge(cost) => {
                limiter.charge(&(0, 0), cost);
                logs.iter_mut().for_each(|log| log.charge(cost, now));
            }
            // What it gives back of an older admission than the log does is another matter.
            Step::Refund(_) if !is_exact => {}
            Step::Refund(cost) => {
                limiter.refund(&(0, 0), cost);
                logs.iter_mut().for_each(|log| log.refund(cost));
            }
            Step::Call(cost) => {
                let admitted = match limiter.admit(&(0, cost), &Now::lazy()) {
                    Admission::Admitted(_) => true,
                    Admission::Refused(_) => false,
                    Admission::Wait(never) => match never {},
                };
                let fits = logs.iter().all(|log| log.fits(cost));
                assert!(fits || !admitted, "admitted {cost} beside a debt");
                assert!(
                    admitted || !is_exact || !fits,
                    "refused {cost} without a debt"
                );
                if admitted {
                    let count = |log: &mut Exact| log.entries.push((now, cost.into()));
                    logs.iter_mut().for_each(count);
                }
            }
        }
        let statuses = limiter.statuses(&(0, 0));
        for (log, status) in logs.iter().zip(&statuses) {
            assert!(
                u64::from(status.debt) >= log.debt,
                "{status:?} and {}",
                log.debt
            );
            let left = if log.debt > 0 {
                0
            } else {
                log.quota - log.used()
            };
            assert!(u64::from(status.remaining) <= left, "{status:?} and {left}");
            if is_exact {
                let told = (u64::from(status.debt), u64::from(status.remaining));
                assert_eq!(told, (log.debt, left));
            }
        }
        // Who waits as told finds something left.
        let least: Option<&QuotaStatus> = statuses.iter().find(|status| status.remaining == 0);
        assert!(
            least.is_none_or(|status| status.reset > Duration::ZERO),
            "{least:?}"
        );
    }
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn debts_are_carried_and_made_up_for_when_there_is_room(small in steps(12), large in steps(1_500)) {
        paused(async {
            for (quota, steps, exact) in [(15_u32, &small, true), (100, &small, false), (1_000, &large, true), (2_000, &large, false), (70_000, &large, false)] {
                let builder = || {
                    let builder = RateLimiter::builder("api", quota, Duration::from_nanos(WINDOW));
                    builder.cost(|req: &Req| req.1)
                };
                let windows = [(quota, WINDOW)];
                if quota <= 15 || quota > 1_024 || quota == 1_000 {
                    check(builder().build().unwrap(), &windows, exact, steps).await;
                }
                let keyed = builder().keyed(|req: &Req| req.0).build().unwrap();
                check(keyed, &windows, quota <= 15, steps).await;
                let long = (2 * quota, 7 * WINDOW);
                let builder = builder().window(long.0, Duration::from_nanos(long.1));
                check(builder.build().unwrap(), &[windows[0], long], false, steps).await;
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_cost_more_than_expected_leave_a_debt_that_the_next_one_waits_for() {
    let builder = |quota| RateLimiter::builder("tokens", quota, 60 * SECOND);
    limits(builder(1_000).build().unwrap(), 1).await;
    limits(builder(1_000).keyed(|_: &()| 1).build().unwrap(), 1).await;
    let two = builder(1_000).window(9_000, 3_600 * SECOND);
    limits(two.build().unwrap(), 1).await;
    limits(builder(2_000).build().unwrap(), 2).await;

    async fn limits<K: Key<()>>(limiter: RateLimiter<K>, n: u32) {
        let call = || at(&limiter, &(), Time::now().as_nanos());
        call().unwrap();
        limiter.charge(&(), 600 * n - 1);
        assert_eq!(limiter.status(&()).remaining, 400 * n);
        // Longer than a sub-window.
        tokio::time::advance(10 * SECOND).await;
        call().unwrap();
        limiter.charge(&(), 600 * n - 1);
        let status = limiter.status(&());
        assert_eq!((status.remaining, status.debt), (0, 200 * n));
        let wait = call().unwrap_err().retry_after().unwrap();
        assert!(wait >= 50 * SECOND && wait < 53 * SECOND, "{wait:?}");
        assert!(
            status.reset <= wait && wait <= status.reset + SECOND / 100,
            "{status:?}"
        );
        tokio::time::advance(wait).await;
        // The 600 have left, and 200 of them are taken for what was owed.
        let status = limiter.status(&());
        assert_eq!((status.remaining, status.debt), (400 * n, 0));
        call().unwrap();
        // It is counted until a minute after it was made up for.
        tokio::time::advance(58 * SECOND).await;
        assert!(limiter.status(&()).remaining < 1_000 * n);
        tokio::time::advance(6 * SECOND).await;
        assert!(
            limiter.status(&()).remaining > 1_000 * n - 2,
            "{:?}",
            limiter.status(&())
        );
        // Debts of ages, and nobody who looked for longer.
        limiter.charge(&(), 2_000_000_000);
        limiter.charge(&(), 2_000_000_000);
        assert!(call().is_err());
        tokio::time::advance(5_000_000 * 60 * SECOND).await;
        let status = limiter.status(&());
        if status.debt > 0 {
            // At 1,000 a minute; or at 9,000 an hour.
            assert!(call().is_err());
            tokio::time::advance(25_000_000 * 60 * SECOND).await;
        }
        call().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn under_gcra_a_debt_is_made_up_for_at_the_rate() {
    let builder = RateLimiter::builder("api", 60, 60 * SECOND);
    let builder = builder.algorithm(Algorithm::Gcra { burst: 10 });
    let keyed = builder.clone().keyed(|_: &()| 1).build().unwrap();
    limits(builder.build().unwrap()).await;
    limits(keyed).await;

    async fn limits<K: Key<()>>(limiter: RateLimiter<K>) {
        limiter.charge(&(), 25);
        let status = limiter.status(&());
        assert_eq!(
            (status.remaining, status.debt, status.reset),
            (0, 15, 16 * SECOND)
        );
        limiter.refund(&(), 5);
        assert_eq!(limiter.status(&()).debt, 10);
        tokio::time::advance(11 * SECOND).await;
        assert_eq!(
            (limiter.status(&()).remaining, limiter.status(&()).debt),
            (1, 0)
        );
        assert_eq!(limiter.snapshot().admitted_total, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_wait_until_a_debt_is_made_up_for_and_a_refund_lets_them_in() {
    let limiter: RateLimiter<Global> = RateLimiter::new("api", 10, SECOND).unwrap();
    let waits = limiter.wait_up_to(60 * SECOND);
    limiter.charge(&(), 25);
    let start = Time::now();
    let call = || {
        let elapsed = async move || Ok::<_, buttress::Rejected>(Time::now().since(start));
        waits.run(elapsed)
    };
    // 10 now, 10 in a second and 5 more in two.
    assert_eq!(call().await.unwrap().as_secs(), 2);
    limiter.charge(&(), 1_000);
    let refused = assert_ready!(task::spawn(call()).poll());
    assert!(refused.unwrap_err().retry_after() > Some(60 * SECOND));
    limiter.refund(&(), 900);
    let mut waiting = task::spawn(call());
    assert_pending!(waiting.poll());
    limiter.refund(&(), 100);
    assert!(waiting.is_woken());
    assert!(assert_ready!(waiting.poll()).is_ok());
}

#[test]
fn threads_that_charge_at_the_same_time_lose_nothing_and_admit_nothing_beside_a_debt() {
    for (quota, keyed) in [(100_u32, false), (5_000, false), (100, true), (5_000, true)] {
        let global = RateLimiter::new("api", quota, 3_600 * SECOND).unwrap();
        let key = RateLimiter::builder("api", quota, 3_600 * SECOND).keyed(|_: &()| 1);
        let key = key.build().unwrap();
        let admitted = AtomicU32::new(0);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..quota {
                        let now = Time::now().as_nanos();
                        let taken = match keyed {
                            true => at(&key, &(), now),
                            false => at(&global, &(), now),
                        };
                        if taken.is_ok() {
                            admitted.fetch_add(1, SeqCst);
                        }
                        match keyed {
                            true => key.charge(&(), 1),
                            false => global.charge(&(), 1),
                        }
                    }
                });
            }
        });
        let status = match keyed {
            true => key.status(&()),
            false => global.status(&()),
        };
        let admitted = admitted.load(SeqCst);
        assert_eq!(
            (status.remaining, status.debt),
            (0, 4 * quota + admitted - quota),
            "{keyed}"
        );
        let total = [&global.snapshot(), &key.snapshot()][usize::from(keyed)].admitted_total;
        assert_eq!(total, u64::from(4 * quota + admitted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_a_debt_is_not_forgotten_and_one_that_has_none_any_more_is() {
    let limiter = RateLimiter::builder("api", 4, SECOND).keyed(|key: &u64| *key);
    let limiter = limiter.max_keys(2).build().unwrap();
    let call = |key: u64| at(&limiter, &key, Time::now().as_nanos());
    limiter.charge(&1, 40);
    limiter.charge(&2, 4);
    tokio::time::advance(2 * SECOND).await;
    // The second is idle, and the first in debt for seven seconds more.
    call(3).unwrap();
    assert!(call(1).is_err());
    assert_eq!(limiter.snapshot().overflowed_total, Some(0));
    tokio::time::advance(20 * SECOND).await;
    call(4).unwrap();
    call(5).unwrap();
    assert_eq!(limiter.snapshot().overflowed_total, Some(0));
    assert_eq!(limiter.status(&1).remaining, 4);
}
