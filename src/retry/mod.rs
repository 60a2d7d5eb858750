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
//! # Trade-offs
//! A retry repeats whatever the service did before it failed. `Retry::layer()` clones the request
//! and leaves it to you whether that is safe; the `http` adapter retries only what HTTP calls
//! idempotent. A request, and a clone of the service, are kept for as long as the call runs.
//! Retry in one place of a stack: with three layers of three attempts each, one call becomes
//! twenty-seven. The number of the attempt [travels](crate::context::Context::attempt), so that a
//! service can see that a call is not the first.

mod attempts;
mod backoff;
pub(crate) mod budget;
mod future;
mod replay;
mod run;
mod service;

pub use backoff::{Backoff, Jitter};
pub use budget::{Budget, BudgetBuilder};
pub use future::RetryFuture;
pub use replay::{Attempt, CloneRequest, Hint, Pushback, Replay};
pub use service::{RetryLayer, RetryService};

use crate::{
    error::{InvalidConfig, Name},
    rng::Dice,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Retries failed calls. Clones share the budget and the counters.
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
    /// The defaults of [`RetryBuilder`], with a budget of its own.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).make()
    }

    /// A retry of other terms.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder {
            name: name.into(),
            attempts: 3,
            backoff: Backoff::default(),
            budget: None,
            max_retry_after: Duration::from_secs(60),
            seed: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What its retries are paid from.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// This retry as a tower layer that clones requests and takes every `Err` for a failure.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer::new(self.clone())
    }

    /// What it has done so far.
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

/// The terms of a [`Retry`].
#[derive(Debug)]
pub struct RetryBuilder {
    name: Name,
    attempts: u32,
    backoff: Backoff,
    budget: Option<Budget>,
    max_retry_after: Duration,
    seed: Option<u64>,
}

impl RetryBuilder {
    /// The most attempts, the first included: 3 by default. If two more do not help, the trouble is
    /// rarely one that a fourth would get around. At least 1.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// How long to wait between attempts: [`Backoff::default`] by default.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// What retries are paid from: by default a [`Budget::new`] of this policy's own.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// The longest that a service may ask to be left alone if it is to be called again: 60 s by
    /// default, since few callers wait for longer. Beyond it the caller gets the answer, which says
    /// for how long.
    #[must_use]
    pub fn max_retry_after(self, longest: Duration) -> Self {
        Self {
            max_retry_after: longest,
            ..self
        }
    }

    /// Makes the jitter repeatable: random by default.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// The policy.
    ///
    /// # Errors
    /// If there is not to be even one attempt, or the backoff could not work.
    pub fn build(self) -> Result<Retry, InvalidConfig> {
        InvalidConfig::check(
            self.attempts > 0,
            "retry",
            "attempts",
            self.attempts,
            "at least 1",
        )?;
        self.backoff.check()?;
        Ok(self.make())
    }

    fn make(self) -> Retry {
        Retry(Arc::new(Core {
            name: self.name.as_str(),
            max_attempts: self.attempts,
            backoff: self.backoff,
            budget: self.budget.unwrap_or_default(),
            max_retry_after: self.max_retry_after,
            dice: Dice::new(self.seed),
            failed_attempts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
        }))
    }
}

/// What a [`Retry`] has done. A call that succeeds at once is counted nowhere.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
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
