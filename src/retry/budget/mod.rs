//! How many retries a target can bear: pure, shared by whoever calls it.
//!
//! Retrying multiplies load by the number of attempts exactly when there is too much of it. A
//! budget bounds that: retries are paid for by successes. After Finagle's `RetryBudget`, gRPC's
//! retry throttling (proposal A6) and "Addressing Cascading Failures" in Google's SRE book, with
//! three differences: only a success pays (Finagle takes a deposit for every request, so that a
//! dead service goes on earning retries), a retry is paid for before its wait and not after it, so
//! that a crowd of callers waiting to come back has been counted, and what is free by time ends
//! with two lost calls, because a minimum that never ends keeps a full service full for good.
//!
//! The rule was chosen by simulation, beside nine others. `simulation` repeats what it promises.

mod config;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use config::BudgetBuilder;

use crate::clock::Time;
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// A retry budget: what retries of calls to one target are paid from.
///
/// Without one, retries multiply the load of a service exactly when it has too much of it. It has
/// three parts:
///
/// 1. **Earned** retries: each successful attempt pays for a tenth of one
///    ([`ratio`](BudgetBuilder::ratio)), and at most 10 are saved ([`cap`](BudgetBuilder::cap)).
/// 2. **Free** retries, for callers with so few calls that they earn nothing: one a second
///    ([`free_per_second`](BudgetBuilder::free_per_second)), at most 3 saved
///    ([`free_cap`](BudgetBuilder::free_cap)), when nothing earned is left. They are for failures:
///    what a service refuses because it is full is repeated with earned ones only.
/// 3. **A gate** on both: after two calls in a row that were lost
///    ([`stop_after`](BudgetBuilder::stop_after)), nothing is paid for until an attempt succeeds.
///    The first attempt of every call is still made, and one success is enough.
///
/// A call is lost if its last attempt failed, though it might have been repeated: there were no
/// attempts, no time or no budget left. Not lost, because they say nothing about the target, are
/// calls that the caller dropped, that a policy of this crate refused, that may not be repeated (a
/// `POST`), and those that the service asked not to repeat, or not so soon.
///
/// # What it promises
///
/// Shares of calls that fail with three attempts, in simulations of this budget and of the same
/// retries without one:
///
/// | calls | no budget | this budget |
/// |---|---|---|
/// | one a minute or a second, 30 % of attempts fail | 0.027 | 0.027 |
/// | one a minute, 50 % of attempts fail | 0.125 | 0.135 |
/// | one a second, 50 % of attempts fail | 0.125 | 0.146 |
/// | one a minute or a second, one of two instances dead | 0 | 0 |
/// | ten a second, one of two instances dead | 0 | 0.42 |
/// | one in ten minutes, after two stale connections each time | 0 | 0 |
///
/// A service at twice its capacity gets a tenth more calls than it would without retries, where
/// three attempts without budget make that 2.5 times as many.
///
/// Fleets of clients, whose service does no work for 10 s and neither sheds nor drops work that
/// nobody waits for any more. How many calls it is sent during that outage, and how many seconds
/// after it all is well again, if the calls without retries take 0.5, 0.7 or 0.9 of its capacity
/// (one run each; others differ by a third, and at 0.9 by up to twice):
///
/// | clients | calls during the outage | all is well after | without the gate |
/// |---|---|---|---|
/// | 1,000, one call a minute each | 3.0 times as many | 89, 165, 326 s | never |
/// | 10,000, one call a minute each | 3.0 times as many | 119, 196, 324 s | never |
/// | 1,000, one call in ten seconds each | 2.8 times as many | 18, 32, 50 s | never |
/// | 1,000, one call a second each | 1.5 times as many | 3, 5, 14 s | 43 s, never, never |
/// | 10,000, one call a second each | 1.5 times as many | 3, 5, 15 s | 41 s, never, never |
///
/// # What remains
///
/// - A client that calls once a minute learns of an outage by two lost calls, which takes two
///   minutes. A fleet of such clients triples its load for that long, and where the server neither
///   sheds nor drops expired work the collapse outlasts a short outage by two to five minutes (not
///   for good). No rule that lets rare callers retry can know earlier. The cure is shedding at the
///   server ([`LoadShed`](crate#layers)), or fewer [`attempts`](super::RetryBuilder::attempts).
/// - Half of the instances dead at ten calls a second is more than a tenth can pay for: use a
///   breaker for each instance, or a `ratio` of 1.
/// - Conflicts of transactions are no load problem, and a budget only makes them fail: see
///   [`unlimited`](Self::unlimited).
/// - The gate is the budget's. If routes share one, a success of one route opens it for another
///   that is dead; how many retries that one then makes is still bounded.
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
/// 2. A retry is taken before it is waited for, and given back at most once, by who took it, to
///    where it came from.
/// 3. In any stretch of time, no more free retries are taken than are saved at most and added in
///    that time, less those given back, unless the clock was set back.
/// 4. `lost` is at most `stop_after`, and only a success makes it less.
#[derive(Debug)]
struct State {
    /// In millionths of a retry.
    deposit_per_success: u64,
    cap: u64,
    free: FreeRate,
    stop_after: u32,
    unlimited: bool,
    balance: AtomicU64,
    /// When all free retries that were taken will have been added again (GCRA).
    free_since: AtomicU64,
    /// Calls lost in a row, with no successful attempt in between.
    lost: AtomicU32,
}

/// How free retries come, in nanoseconds.
#[derive(Debug)]
struct FreeRate {
    /// The time in which one is added.
    every: u64,
    /// The time in which all that are saved at most are added: 0 if there are none.
    all: u64,
}

impl FreeRate {
    fn new(every: u64, cap: u32) -> Self {
        Self {
            every,
            all: every.saturating_mul(u64::from(cap)),
        }
    }
}

/// One retry. Integers, because tenths do not add up in floats; millionths, so that a ratio of 0.6
/// is 0.6.
const TOKEN: u64 = 1_000_000;

/// Who paid for a retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Paid {
    /// The successes.
    Earned,
    /// Time.
    Free,
    /// Nobody: the budget is unlimited.
    Unlimited,
}

impl Budget {
    /// Creates a budget with all defaults: each success pays for a tenth of a retry, of which at
    /// most 10 are saved up; one a second is free, of which at most 3 are saved up; and after two
    /// calls in a row that were lost, there are none until an attempt succeeds.
    pub fn new() -> Self {
        BudgetBuilder::default().make()
    }

    /// Returns the settings of a budget, all of them at their [defaults](super#defaults).
    pub fn builder() -> BudgetBuilder {
        BudgetBuilder::default()
    }

    /// Creates a budget that pays for every retry, which is no budget at all.
    ///
    /// It is for failures that are not load: conflicts of transactions, say, where each attempt
    /// that fails means that another transaction was committed. The
    /// [module](super#transactions-that-conflict) has an example. It is also for tests, and for a
    /// target that nobody else depends on. Anywhere else it turns a short failure into a long one:
    /// with three attempts in each of two services in a row, the full service behind them gets nine
    /// times the calls that it could not serve, and goes on getting them.
    pub fn unlimited() -> Self {
        BudgetBuilder {
            unlimited: true,
            ..BudgetBuilder::default()
        }
        .make()
    }

    /// Returns how many earned retries are saved up; infinity for an
    /// [unlimited](Self::unlimited) budget. Neither the free ones nor the gate are in this number.
    pub fn balance(&self) -> f64 {
        if self.0.unlimited {
            return f64::INFINITY;
        }
        let balance = self.0.balance.load(Relaxed);
        debug_assert!(balance <= self.0.cap, "more than was ever to be saved up");
        balance as f64 / TOKEN as f64
    }

    /// Pays in for an attempt that succeeded. While the budget is full and all is well, this only
    /// reads.
    #[inline]
    pub(crate) fn record_success(&self) {
        let state = &*self.0;
        if state.balance.load(Relaxed) < state.cap {
            self.deposit(state.deposit_per_success);
        }
        if state.lost.load(Relaxed) != 0 {
            state.lost.store(0, Relaxed);
        }
    }

    /// Remembers that a call was lost, for the gate.
    #[cold]
    pub(crate) fn record_lost(&self) {
        let state = &*self.0;
        if state.unlimited {
            return;
        }
        let more = |lost| (lost < state.stop_after).then_some(lost + 1);
        let _ = state.lost.fetch_update(Relaxed, Relaxed, more);
    }

    /// Pays for one retry, if the budget can: only with what is earned if the service is
    /// `overloaded`, because it has said that more calls do not help.
    #[cold]
    pub(crate) fn withdraw(&self, now: Time, overloaded: bool) -> Option<Paid> {
        let state = &*self.0;
        if state.unlimited {
            return Some(Paid::Unlimited);
        }
        let lost = state.lost.load(Relaxed);
        debug_assert!(lost <= state.stop_after, "{lost}");
        if lost >= state.stop_after {
            return None;
        }
        let less = |balance: u64| balance.checked_sub(TOKEN);
        match state.balance.fetch_update(Relaxed, Relaxed, less) {
            Ok(_) => Some(Paid::Earned),
            Err(_) if overloaded => None,
            Err(_) => self.take_free(now).then_some(Paid::Free),
        }
    }

    /// Takes back what was paid for a retry that was not made after all.
    pub(crate) fn give_back(&self, paid: Paid) {
        match paid {
            Paid::Earned => self.deposit(TOKEN),
            Paid::Free => {
                let every = self.0.free.every;
                let earlier = |since: u64| Some(since.saturating_sub(every));
                let _ = self.0.free_since.fetch_update(Relaxed, Relaxed, earlier);
            }
            Paid::Unlimited => {}
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

    fn take_free(&self, now: Time) -> bool {
        let FreeRate { every, all } = self.0.free;
        let take = |free_since: u64| {
            let ahead = free_since.saturating_sub(now.0);
            // Further than can have been taken: the clock was set back, which must not end the
            // free retries for good.
            let ahead = if ahead > all { 0 } else { ahead };
            let ahead = ahead.checked_add(every).filter(|ahead| *ahead <= all)?;
            now.0.checked_add(ahead)
        };
        let taken = self.0.free_since.fetch_update(Relaxed, Relaxed, take);
        taken.is_ok()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}
