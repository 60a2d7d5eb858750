//! How many retries a target can bear: pure, shared by whoever calls it.
//!
//! Retrying multiplies load by the number of attempts exactly when there is too much of it. A
//! budget bounds that: retries are paid for by successes. After Finagle's `RetryBudget`, gRPC's
//! retry throttling (proposal A6) and "Addressing Cascading Failures" in Google's SRE book, with
//! two differences: only a success pays (Finagle takes a deposit for every request, so that a
//! dead service goes on earning retries), and a retry is paid for before its wait and not after
//! it, so that a crowd of callers waiting to come back has been counted.

use crate::{clock::Time, error::InvalidConfig};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A retry budget: a balance that retries of calls to one target are paid from, and that successes
/// fill.
///
/// Without one, retries multiply the load of a service exactly when it has too much of it.
///
/// # Clone
/// Clones share the balance. Give one to every policy that calls the same target:
///
/// ```
/// use buttress::retry::{Budget, Retry};
///
/// let orders = Budget::builder().ratio(0.2).cap(100).build()?;
/// let reads = Retry::builder("orders.read").budget(orders.clone()).build()?;
/// let writes = Retry::builder("orders.write").budget(orders).build()?;
/// # Ok::<_, buttress::InvalidConfig>(())
/// ```
#[doc(alias("retry_budget", "TokenBucket", "tps_budget"))]
#[derive(Clone, Debug)]
pub struct Budget(Arc<State>);

/// # Invariants
/// 1. The balance is never above the cap.
/// 2. A token is taken before its retry is waited for, and given back at most once, by who took it.
/// 3. The credit stays within `CREDIT` of zero, and only moves by one, or to zero with a grant.
/// 4. The floor grants once in `floor_every` at most, unless the clock was set back, and never
///    while the credit is below zero.
#[derive(Debug)]
struct State {
    /// In millionths of a retry.
    deposit_per_success: u64,
    cap: u64,
    /// The time between retries that need no token, if there are such.
    floor_every: Option<Duration>,
    balance: AtomicU64,
    /// Successes less failures since the floor last granted a retry, within `CREDIT`.
    credit: AtomicI32,
    last_grant: AtomicU64,
    unlimited: bool,
}

/// One retry. Integers, because tenths do not add up in floats; millionths, so that a ratio of 0.6
/// is 0.6.
const TOKEN: u64 = 1_000_000;

/// How far the memory of successes and failures goes. It is short, so that ten failures in a row
/// are enough to know a dead service by, and ten successes to trust it again.
const CREDIT: i32 = 10;

/// The floor has not granted anything yet. As a time it is so far ahead of any other that the clock
/// must have been set back, which is what lets the first grant through.
const NEVER: u64 = u64::MAX;

/// A retry that has been paid for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Paid {
    /// From the balance.
    Token,
    /// By the floor, or by nobody.
    Floor,
}

impl Budget {
    /// Creates a budget with all defaults: each success pays for a tenth of a retry, at most 10
    /// retries are saved up, and one a second is granted to callers with few calls, unless more of
    /// them have failed than succeeded since the last such grant ([`BudgetBuilder::floor`]).
    pub fn new() -> Self {
        BudgetBuilder::default().make()
    }

    /// Returns the settings of a budget, all of them at their [defaults](super#defaults).
    pub fn builder() -> BudgetBuilder {
        BudgetBuilder::default()
    }

    /// Creates a budget that pays for every retry, which is no budget at all.
    ///
    /// It is for tests, and for a target that nobody else depends on. Anywhere else it turns a
    /// short failure into a long one: with three attempts in each of two services in a row, the
    /// full service behind them gets nine times the calls that it could not serve, and goes on
    /// getting them.
    pub fn unlimited() -> Self {
        BudgetBuilder {
            unlimited: true,
            ..BudgetBuilder::default()
        }
        .make()
    }

    /// Returns how many retries the balance would pay for now; infinity for an
    /// [unlimited](Self::unlimited) budget.
    pub fn balance(&self) -> f64 {
        if self.0.unlimited {
            return f64::INFINITY;
        }
        let balance = self.0.balance.load(Relaxed);
        debug_assert!(balance <= self.0.cap, "more than was ever to be saved up");
        balance as f64 / TOKEN as f64
    }

    /// Pays in for a call that succeeded. While the budget is full and all is well, this only
    /// reads.
    #[inline]
    pub(crate) fn record_success(&self) {
        let state = &*self.0;
        if state.balance.load(Relaxed) < state.cap {
            self.deposit(state.deposit_per_success);
        }
        if state.credit.load(Relaxed) < CREDIT {
            let more = |credit| (credit < CREDIT).then_some(credit + 1);
            let _ = state.credit.fetch_update(Relaxed, Relaxed, more);
        }
    }

    /// Remembers that an attempt failed, for the floor.
    pub(crate) fn record_failure(&self) {
        let less = |credit| (credit > -CREDIT).then_some(credit - 1);
        let _ = self.0.credit.fetch_update(Relaxed, Relaxed, less);
    }

    /// Pays for one retry, if the balance or the floor can.
    pub(crate) fn withdraw(&self, now: Time) -> Option<Paid> {
        if self.0.unlimited {
            return Some(Paid::Floor);
        }
        let less = |balance: u64| balance.checked_sub(TOKEN);
        let paid = self.0.balance.fetch_update(Relaxed, Relaxed, less);
        match paid {
            Ok(_) => Some(Paid::Token),
            Err(_) => self.floor(now).then_some(Paid::Floor),
        }
    }

    /// Takes back what was paid for a retry that was not made after all. The floor's are not given
    /// back: it counts by time.
    pub(crate) fn give_back(&self, paid: Paid) {
        if paid == Paid::Token {
            self.deposit(TOKEN);
        }
    }

    fn deposit(&self, amount: u64) {
        let cap = self.0.cap;
        let more = |balance: u64| {
            let more = balance.saturating_add(amount).min(cap);
            (more > balance).then_some(more)
        };
        let _ = self.0.balance.fetch_update(Relaxed, Relaxed, more);
    }

    /// Grants a retry now and then to callers too rare to fill a budget; but none for a service
    /// that is failing more than it succeeds, or every one of a thousand idle clients would have
    /// its own.
    #[cold]
    fn floor(&self, now: Time) -> bool {
        let state = &*self.0;
        let Some(every) = state.floor_every else {
            return false;
        };
        let last = state.last_grant.load(Relaxed);
        // A clock may go back; a grant far in the future must not end the floor for good.
        let due = now.since(Time(last)) >= every || Time(last).since(now) > every;
        let credit = state.credit.load(Relaxed);
        debug_assert!(credit.abs() <= CREDIT, "{credit}");
        if !due || credit < 0 {
            return false;
        }
        let granted = state
            .last_grant
            .compare_exchange(last, now.0, Relaxed, Relaxed)
            .is_ok();
        if granted {
            state.credit.store(0, Relaxed);
        }
        granted
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// The settings of a [`Budget`], begun by [`Budget::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Clone, Debug)]
pub struct BudgetBuilder {
    ratio: f64,
    cap: u32,
    floor: u32,
    unlimited: bool,
}

impl Default for BudgetBuilder {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            cap: 10,
            floor: 1,
            unlimited: false,
        }
    }
}

impl BudgetBuilder {
    /// Sets how many retries each success pays for. From 0 to 1000. By default 0.1, so that retries
    /// never add more than a tenth to the load of a service that works, and run out when more than
    /// one call in eleven fails.
    #[doc(alias = "percent_can_retry")]
    #[must_use]
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Sets how many retries can be saved up at most. A budget starts full. By default 10, enough
    /// when a connection breaks with some calls on it.
    #[doc(alias = "max_tokens")]
    #[must_use]
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Sets how many retries per second an empty budget pays for all the same. By default 1, for
    /// callers so rare that their successes never add up. With 0, it pays for none.
    ///
    /// Such a retry is granted only if there have been at least as many successes as failures since
    /// the last one, so that a dead service gets none.
    #[doc(alias = "min_retries_per_sec")]
    #[must_use]
    pub fn floor(self, floor: u32) -> Self {
        Self { floor, ..self }
    }

    /// Builds the budget, which starts full.
    ///
    /// # Errors
    /// If the ratio is not a number from 0 to 1000.
    pub fn build(self) -> Result<Budget, InvalidConfig> {
        let valid = (0.0..=1000.0).contains(&self.ratio);
        InvalidConfig::check(valid, "retry budget", "ratio", self.ratio, "from 0 to 1000")?;
        Ok(self.make())
    }

    fn make(self) -> Budget {
        let cap = u64::from(self.cap) * TOKEN;
        let every = Duration::from_secs(1).checked_div(self.floor);
        // More than one a nanosecond is no limit that time could tell.
        let every = every.map(|every| every.max(Duration::from_nanos(1)));
        Budget(Arc::new(State {
            // Rounded, not cut off: 0.6 as a float is a little less than that.
            deposit_per_success: (self.ratio * TOKEN as f64).round() as u64,
            cap,
            floor_every: every,
            balance: AtomicU64::new(cap),
            credit: AtomicI32::new(0),
            last_grant: AtomicU64::new(NEVER),
            unlimited: self.unlimited,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn budget(ratio: f64, cap: u32, floor: u32) -> Budget {
        let builder = Budget::builder().ratio(ratio).cap(cap).floor(floor);
        builder.build().unwrap()
    }

    fn drain(budget: &Budget, now: Time) -> u32 {
        let paid = std::iter::from_fn(|| budget.withdraw(now));
        paid.take(10_000).count() as u32
    }

    #[test]
    fn it_starts_full_and_every_ratio_is_exact() {
        for (ratio, successes, retries) in
            [(0.1, 100, 10), (0.6, 5, 3), (0.2, 500, 100), (3.0, 4, 12)]
        {
            let budget = budget(ratio, 200, 0);
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
        let budget = budget(1000.0, 3, 0);
        budget.record_success();
        budget.give_back(Paid::Token);
        assert_eq!(budget.balance(), 3.0);
        let paid = budget.withdraw(Time(0)).unwrap();
        assert_eq!(budget.balance(), 2.0);
        budget.give_back(paid);
        assert_eq!(budget.balance(), 3.0);
    }

    #[test]
    fn the_floor_lets_a_rare_caller_retry_once_a_second() {
        let budget = budget(0.0, 0, 1);
        let now = |tenths: u64| Time(5 * SECOND + tenths * SECOND / 10);
        budget.record_success();
        budget.record_failure();
        assert_eq!(budget.withdraw(now(0)), Some(Paid::Floor));
        budget.record_success();
        assert_eq!(budget.withdraw(now(9)), None);
        assert_eq!(budget.withdraw(now(10)), Some(Paid::Floor));
    }

    #[test]
    fn the_floor_gives_a_dead_service_nothing_and_trusts_it_again_when_it_is_back() {
        let budget = budget(0.0, 0, 1);
        let mut granted = 0;
        for second in 0..1_000 {
            budget.record_failure();
            granted += drain(&budget, Time(second * SECOND));
        }
        assert_eq!(granted, 0);
        for _ in 0..10 {
            budget.record_success();
        }
        assert_eq!(drain(&budget, Time(1_000 * SECOND)), 1);
    }

    #[test]
    fn the_floor_survives_a_clock_that_jumps() {
        let budget = budget(0.0, 0, 1);
        let hours = 3_600 * SECOND;
        assert_eq!(drain(&budget, Time(9 * hours)), 1, "forwards");
        assert_eq!(drain(&budget, Time(hours)), 1, "backwards");
        assert_eq!(drain(&budget, Time(hours)), 0);
        assert_eq!(drain(&budget, Time(u64::MAX)), 1, "to the end");
    }

    #[test]
    fn a_full_budget_of_a_healthy_service_is_only_read() {
        let budget = Budget::new();
        for _ in 0..CREDIT {
            budget.record_success();
        }
        let before = budget.0.credit.load(Relaxed);
        budget.record_success();
        assert_eq!((before, budget.balance()), (CREDIT, 10.0));
        assert_eq!(budget.0.credit.load(Relaxed), CREDIT);
    }

    #[test]
    fn a_ratio_that_is_none_is_refused() {
        for ratio in [-0.1, 1000.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Budget::builder().ratio(ratio).build().unwrap_err();
            assert_eq!(error.field(), "ratio");
        }
        for ratio in [0.0, -0.0, 1000.0, f64::MIN_POSITIVE] {
            let extreme = Budget::builder().ratio(ratio).cap(u32::MAX).floor(u32::MAX);
            assert!(extreme.build().is_ok_and(|b| b.withdraw(Time(0)).is_some()));
        }
    }

    proptest! {
        #[test]
        fn retries_never_exceed_what_was_paid_for(
            tenths in 0_u32..20, cap in 0_u32..20, floor in 0_u32..3,
            steps in prop::collection::vec((0_u8..4, 0_u64..SECOND), 1..400),
        ) {
            let ratio = f64::from(tenths) / 10.0;
            let budget = budget(ratio, cap, floor);
            let (mut now, mut successes, mut retries) = (0, 0_u32, 0_u32);
            for (what, pause) in steps {
                now += pause;
                match what {
                    0 => {
                        budget.record_success();
                        successes += 1;
                    }
                    1 => budget.record_failure(),
                    2 => retries += u32::from(budget.withdraw(Time(now)).is_some()),
                    _ => if let Some(paid) = budget.withdraw(Time(now)) {
                        // A floor's retry counts even if it is not made.
                        retries += u32::from(paid == Paid::Floor);
                        budget.give_back(paid);
                    }
                }
                let by_time = f64::from(floor) * (now as f64 / SECOND as f64) + f64::from(floor.min(1));
                let most = ratio * f64::from(successes) + f64::from(cap) + by_time;
                prop_assert!(f64::from(retries) <= most + 1e-9, "{retries} > {most}");
                prop_assert!(budget.balance() <= f64::from(cap));
            }
        }
    }
}
