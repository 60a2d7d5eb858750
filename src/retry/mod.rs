//! Retries of calls that failed, as many as the service can bear.
//!
//! After each attempt that failed, the policy decides whether to make another one, and how long to
//! wait before it:
//!
//! - Only a [`Failure`](crate::Outcome::Failure) or an [`Overloaded`](crate::Outcome::Overloaded)
//!   is retried, as the [classifier](crate::Classify) sees it. A rejection by a layer of this crate
//!   further in is not: an open breaker, for example, is still open a moment later. The exception
//!   is a [timeout](crate::Kind::TimedOut), which ends an attempt like any other failure.
//! - A call has at most [`attempts`](RetryBuilder::attempts) attempts, the first included.
//! - [`Backoff`] says how long to wait. If the service says when it wants to be called again, it is
//!   not called earlier.
//! - Waiting is the caller's time: if the wait would be longer than
//!   [`max_wait`](RetryBuilder::max_wait), there is no further attempt.
//! - An attempt that could only start after the [deadline](crate::context) of the call is not
//!   waited for. An attempt that runs is not cut off at the deadline: put a `DeadlineLayer`
//!   outside, which sets the deadline and does that.
//! - Each retry is paid from the [`Budget`]. If that does not pay, the service cannot bear more
//!   retries.
//!
//! If there is no further attempt, the caller gets the real result of the last one, at once. It
//! gets the last error, too, if the deadline comes before the attempt that was waited for can
//! start, because a timer was late or the service did not become ready. (Only for a response that
//! was taken for a failure the layer then has a
//! [`DeadlineExceeded`](crate::Kind::DeadlineExceeded): a response is let go of before the wait,
//! with its connection.) Between attempts that follow each other without a wait, the call yields to
//! the runtime once, so that a timeout outside can end it.
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
//!     .run(|| {
//!         calls += 1; // outside of the future, which cannot borrow what the closure owns
//!         let call = calls;
//!         async move {
//!             if call < 3 { Err(Error::Service(io::Error::other("busy"))) } else { Ok("sent") }
//!         }
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
//! | [`attempts`](RetryBuilder::attempts) | 3 | if two retries do not help, a third rarely does |
//! | [`backoff`](RetryBuilder::backoff) | exponential, from 100 ms | some round trips within a region, so that a hiccup is over |
//! | [`Backoff::multiplier`] | 2 | the slowest growth at which the load of all retries stays finite however many callers fail |
//! | [`Backoff::max`] | 5 s | with longer waits the caller has gone, and a service that is back is noticed late |
//! | [`Backoff::jitter`] | [`Jitter::Full`] | needs the fewest calls of all kinds of jitter |
//! | [`budget`](RetryBuilder::budget) | a [`Budget`] of the policy's own | |
//! | [`BudgetBuilder::ratio`] | 0.1 | what is earned adds no more than a tenth to the load of a service that works |
//! | [`BudgetBuilder::cap`] | 10 | enough when a connection breaks with some calls on it |
//! | [`BudgetBuilder::free_per_second`] | 1 | for callers so rare that their successes never add up: one of two instances may be dead for one that calls once a second |
//! | [`BudgetBuilder::free_cap`] | 3 | enough for two stale connections in a row, and one |
//! | [`BudgetBuilder::stop_after`] | 2 lost calls | one loses too many calls of a service that fails half the time, three make a fleet's outage longer |
//! | [`max_wait`](RetryBuilder::max_wait) | 5 s | waiting is the caller's time, and few people wait for longer |
//! | [`seed`](RetryBuilder::seed) | random | callers that failed together must not come back together |
//!
//! # Transactions that conflict
//!
//! A serializable transaction that fails because of another one (SQLSTATE 40001) is no load
//! problem: the other was committed, and it is right to begin again until it works. The default
//! budget would make most of them fail. Give these retries a policy of their own with
//! [`Budget::unlimited`], many attempts, and a classifier that takes nothing else for a failure:
//!
//! ```
//! use buttress::{Outcome, retry::{Backoff, Budget, Retry}};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! #[derive(Debug)]
//! enum DbError { SerializationFailure, Other }
//!
//! let conflicts = Retry::builder("transfer")
//!     .attempts(50)
//!     .backoff(Backoff::exponential(Duration::from_millis(2)).max(Duration::from_millis(50)))
//!     .budget(Budget::unlimited())
//!     .build()?;
//! let only_conflicts = |result: Result<&u64, &DbError>| match result {
//!     Ok(_) => Outcome::Success,
//!     Err(DbError::SerializationFailure) => Outcome::Failure,
//!     Err(DbError::Other) => Outcome::Ignored,
//! };
//! let mut others = 20;
//! let transfer = || {
//!     let conflict = others > 0;
//!     others -= u32::from(conflict);
//!     async move { if conflict { Err(DbError::SerializationFailure) } else { Ok(7) } }
//! };
//! match conflicts.classify(only_conflicts).run(transfer).await {
//!     Ok(version) => println!("committed as {version}"),
//!     Err(error) => println!("rolled back: {error:?}"),
//! }
//! # assert_eq!((others, conflicts.snapshot().retries_total), (0, 20));
//! # Ok(()) }
//! ```
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
//! | `buttress_retry_budget_exhausted_total` | counter | failures returned to the caller because the budget did not pay |
//! | `buttress_retry_gave_up_total` | counter | failures returned to the caller because there were no attempts left, no time, no request to send again, because the wait would have been too long, or because the service asked not to be called again |
//! | `buttress_retry_budget_balance` | gauge | earned retries that are saved up |
//!
//! # Trade-offs
//!
//! - A retry repeats whatever the service did before it failed. `Retry::layer()` clones the
//!   request, and leaves it to you whether repeating it is safe. `.http()` retries only requests
//!   with methods that HTTP calls idempotent, unless told otherwise.
//! - A clone of the request, and one of the service, are kept for as long as the call runs.
//! - Retry in one place of a stack only: with three layers of three attempts each, one call becomes
//!   twenty-seven. The [context](crate::context::Context::attempt) has the number of the attempt,
//!   so that code further in can see that a call is not the first.

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

/// A retry policy, which makes further attempts at calls that failed.
///
/// The [module](self) describes how it decides, with an example and the defaults.
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
    max_wait: Duration,
    dice: Dice,
    // All written on the way to a retry only.
    failed_attempts: AtomicU64,
    retries: AtomicU64,
    budget_exhausted: AtomicU64,
    gave_up: AtomicU64,
}

impl Retry {
    /// Creates a retry policy with the [defaults](self#defaults).
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).make()
    }

    /// Returns the settings of a retry policy, all of them at their [defaults](self#defaults).
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder::new(name.into())
    }

    /// Returns the name of the policy.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns the budget that retries are paid from.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Returns a tower layer that repeats failed calls, with clones of their requests.
    ///
    /// It still has to be told what a failure is: by [`classify`](RetryLayer::classify), or by
    /// `.http()` or `.grpc()`, which also make requests fit to be sent again.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer::new(self.clone())
    }

    /// Returns what the policy has done so far.
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
/// [`Retry::snapshot`] takes it. With the `registry` feature it can be serialised, and the metrics
/// in the [module's table](self#metrics) are made from it. What ends in `_total` counts since the
/// policy was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the policy.
    pub name: &'static str,
    /// Attempts that failed.
    pub failed_attempts_total: u64,
    /// Attempts made after the first of their call.
    pub retries_total: u64,
    /// Failures returned to the caller because the budget did not pay.
    pub budget_exhausted_total: u64,
    /// Failures returned to the caller because there were no attempts left, no time, no request to
    /// send again, because the wait would have been too long, or because the service asked not to
    /// be called again.
    pub gave_up_total: u64,
    /// How many earned retries are saved up; infinite if the budget is unlimited.
    pub budget_balance: f64,
}
