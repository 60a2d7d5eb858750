//! Other attempts at what failed, as far as the service can bear them.
//!
//! After each attempt that failed it decides whether there is another one, and how long to wait
//! before it:
//!
//! - only a [`Failure`](crate::Outcome::Failure) or an [`Overloaded`](crate::Outcome::Overloaded)
//!   is retried, as the [classifier](crate::Classify) sees it. A rejection by another layer of this
//!   crate below is not, and costs nothing: an open breaker is still open a moment later. The
//!   exception is a [timeout](crate::Kind::TimedOut), which ends an attempt like any other failure;
//! - there are at most [`attempts`](RetryBuilder::attempts);
//! - [`Backoff`] says how long to wait. A service that says when it wants to be called again is
//!   never called earlier, and one that wants to be left alone for too long is not called again;
//! - no attempt is waited for that would start after the [deadline](crate::context) of the call. An
//!   attempt that runs is not cut off at it; a `DeadlineLayer` outside does that, and sets it;
//! - the [`Budget`] pays. An empty one means that the service cannot bear more.
//!
//! Whenever the answer is no, the caller gets the real result of the last attempt, at once.
//!
//! ```
//! use buttress::{Error, retry::{Backoff, Retry}};
//! use std::{io, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let retry = Retry::builder("mailer")
//!     .attempts(4)
//!     .backoff(Backoff::exponential(Duration::from_millis(1)))
//!     .build()?;
//! let mut calls = 0;
//! let sent: Result<_, Error<io::Error>> = retry
//!     .run(async || {
//!         calls += 1;
//!         if calls < 3 { Err(Error::Service(io::Error::other("busy"))) } else { Ok("sent") }
//!     })
//!     .await;
//! match sent {
//!     Ok(answer) => println!("{answer} with {} retries", retry.snapshot().retries_total),
//!     Err(Error::Rejected(rejected)) => println!("not sent: {rejected}"),
//!     Err(Error::Service(error)) => println!("not sent: {error}"),
//! }
//! # assert_eq!(calls, 3);
//! # Ok(()) }
//! ```
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`attempts`](RetryBuilder::attempts) | 3 | if two more do not help, a fourth rarely does |
//! | [`backoff`](RetryBuilder::backoff) | from 100 ms | some round trips within a region, so that what was a hiccup is over |
//! | [`Backoff::multiplier`] | 2 | the slowest growth at which the load of all retries stays finite however many callers fail |
//! | [`Backoff::max`] | 10 s | beyond it a caller is gone, and a service that is back is found late |
//! | [`Backoff::jitter`] | [`Jitter::Full`] | the fewest calls of all kinds, and it ends no later |
//! | [`budget`](RetryBuilder::budget) | a [`Budget`] of the policy's own | |
//! | [`BudgetBuilder::ratio`] | 0.1 | retries never add more than a tenth to the load of a service that works |
//! | [`BudgetBuilder::cap`] | 10 | gets over a connection that breaks with some calls on it |
//! | [`BudgetBuilder::floor`] | 1 a second | for callers so rare that their successes never add up; none while more of their calls fail than succeed |
//! | [`max_retry_after`](RetryBuilder::max_retry_after) | 60 s | few callers wait for longer |
//! | [`seed`](RetryBuilder::seed) | random | callers that failed together must not come back together |
//!
//! # Metrics
//!
//! What a registered retry publishes (feature `registry`), labelled with its name as `policy`. A
//! call that succeeds at once is counted nowhere.
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_retry_failed_attempts_total` | counter | attempts that failed |
//! | `buttress_retry_retries_total` | counter | attempts made after the first of their call |
//! | `buttress_retry_budget_exhausted_total` | counter | failures handed to the caller because the budget was empty |
//! | `buttress_retry_gave_up_total` | counter | failures handed to the caller for want of attempts, time, or the service's wish to be called again |
//! | `buttress_retry_budget_balance` | gauge | retries that the budget would pay for now |
//!
//! # Trade-offs
//!
//! A retry repeats whatever the service did before it failed. `Retry::layer()` clones the request
//! and leaves it to you whether that is safe; the `http` adapter retries only what HTTP calls
//! idempotent. A request, and a clone of the service, are kept for as long as the call runs.
//! Retry in one place of a stack: with three layers of three attempts each, one call becomes
//! twenty-seven. The number of the attempt [travels](crate::context::Context::attempt), so that a
//! service can see that a call is not the first.

mod attempts;
mod backoff;
pub(crate) mod budget;
mod config;
mod future;
mod replay;
mod run;
mod service;

pub use backoff::{Backoff, Jitter};
pub use budget::{Budget, BudgetBuilder};
pub use config::RetryBuilder;
pub use future::RetryFuture;
pub use replay::{Attempt, CloneRequest, Hint, Pushback, Replay};
pub use service::{RetryLayer, RetryService};

use crate::{error::Name, rng::Dice};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A policy that makes other attempts at calls that failed.
///
/// # Clone
/// Clones are one policy: they share the budget and the counters.
#[doc(alias("max_retries", "exponential_backoff"))]
#[derive(Clone, Debug)]
pub struct Retry(Arc<Core>);

#[derive(Debug)]
struct Core {
    name: &'static str,
    max_attempts: u32,
    backoff: Backoff,
    budget: Budget,
    max_retry_after: Duration,
    dice: Dice,
    // All written on the way to a retry only.
    failed_attempts: AtomicU64,
    retries: AtomicU64,
    budget_exhausted: AtomicU64,
    gave_up: AtomicU64,
}

impl Retry {
    /// Creates a retry with all defaults: see the [module](self#defaults).
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).make()
    }

    /// Begins a retry with other settings.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder::new(name.into())
    }

    /// Returns the name of the retry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns what the retries are paid from.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Returns a tower layer that repeats failed calls, with clones of their requests.
    ///
    /// What a failure is has to be said: with [`classify`](RetryLayer::classify), or with `.http()`
    /// or `.grpc()`, which also know which requests may be sent twice.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer::new(self.clone())
    }

    /// Returns what the retry has done so far.
    pub fn snapshot(&self) -> Snapshot {
        let core = &*self.0;
        Snapshot {
            name: core.name,
            failed_attempts_total: core.failed_attempts.load(Relaxed),
            retries_total: core.retries.load(Relaxed),
            budget_exhausted_total: core.budget_exhausted.load(Relaxed),
            gave_up_total: core.gave_up.load(Relaxed),
            budget_balance: core.budget.balance(),
        }
    }
}

/// What a [`Retry`] has done so far. A call that succeeds at once is counted nowhere.
///
/// [`Retry::snapshot`] takes it. With the `registry` feature it can be serialised, and its numbers
/// become the metrics in the [module's table](self#metrics). Counts are those since the start.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the retry.
    pub name: &'static str,
    /// Attempts that failed.
    pub failed_attempts_total: u64,
    /// Attempts made after the first of their call.
    pub retries_total: u64,
    /// Failures handed to the caller because the budget was empty.
    pub budget_exhausted_total: u64,
    /// Failures handed to the caller because there were no attempts left, no time, or no wish on
    /// the service's side.
    pub gave_up_total: u64,
    /// Retries that the budget would pay for now; infinite if it is unlimited.
    pub budget_balance: f64,
}
