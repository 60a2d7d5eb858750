//! A limit on the calls in flight, and what becomes of calls beyond it.
//!
//! A [`LoadShed`] decides by the number of calls in flight whether a call may start now, has to
//! wait, or is turned away: a bulkhead, or concurrency limit. An overloaded service should go on
//! doing as much as it can: calls that it accepts beyond that only make the others late, until all
//! are late.
//!
//! ```
//! use buttress::{Error, Kind, LoadShed};
//! use std::io;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let shed = LoadShed::builder("reports").fixed(8).build()?;
//! let report: Result<&str, Error<io::Error>> = shed.queued().run(async || Ok("42 pages")).await;
//! match report {
//!     Ok(report) => println!("{report}"),
//!     Err(Error::Rejected(r)) if r.kind() == Kind::Overloaded => println!("503, {r}"),
//!     Err(other) => println!("{other}"),
//! }
//! # assert_eq!(shed.snapshot().admitted_total, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Which mode?
//!
//! A mode says what becomes of a call that finds no permit. Each handle offers three, which share
//! its limit:
//!
//! | mode | a call that finds no permit | use it |
//! |---|---|---|
//! | [`queued().layer()`](LoadShed::queued) | waits in a bounded queue, 100 ms at most | **at a
//! server's edge**: bursts are served, and only lasting overload is shed |
//! | [`layer()`](LoadShed::layer) | is rejected at once | before something that has a queue of its
//! own, or when the caller has somewhere else to go; where a service cannot be cloned |
//! | [`backpressure().layer()`](LoadShed::backpressure) | is not made: `poll_ready` waits | inside
//! one process, where callers can be slowed down: a worker that takes jobs from a queue, a client
//! under a load balancer. **Never at the edge of a server**: there, waiting callers form a queue
//! without a bound |
//!
//! ```
//! use buttress::{Criticality, Error, ErrorsAsFailures, LoadShed};
//! use std::io;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! struct Request { batch: bool }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Finds out by itself how much the service can do at once, and prefers what users wait for.
//! let shed = LoadShed::builder("api")
//!     .priority(|req: &Request| match req.batch {
//!         true => Criticality::Sheddable,
//!         false => Criticality::Critical,
//!     })
//!     .build()?;
//! let handler = service_fn(async |_: Request| Ok::<_, Error<io::Error>>("done"));
//! let service = shed.queued().layer().classify(ErrorsAsFailures).layer(handler);
//! assert_eq!(service.oneshot(Request { batch: false }).await?, "done");
//! # Ok(())
//! # }
//! ```
//!
//! # Which limit?
//!
//! Use [`fixed`](LoadShedBuilder::fixed) where the service's parallelism is known. Then calls wait
//! here and not inside the service, and no longer than the queue allows. Otherwise use
//! [`Adaptive`](limit::Adaptive), the default, which finds the limit by itself: it costs a little
//! of the work, and takes some seconds to adjust when the service changes. The [`limit`] module has
//! others, and says where each holds.
//!
//! # Long-lived calls
//!
//! An event stream, a long poll, or a reader that is slow holds its permit for as long as it is
//! open, and so does a call that hangs. It says nothing about how busy the service is. So under a
//! limit that changes, a call that has been in flight for eight times as long as calls usually
//! take, but at least a second, no longer counts: the limit stands beside such calls, and from then
//! on they take nothing from calls that end. [`Snapshot::long_lived`] says how many there are, and
//! [`long_lived`](LoadShedBuilder::long_lived) how many there may be, which bounds what a service
//! that hangs can make a server hold.
//!
//! For that second it is taken for any other call. If more streams come at once than the limit
//! allows, they and other calls are refused until the first ones have become long-lived: a thousand
//! that all come back after a start, with a limit of 20, for the better part of a minute. A server
//! that expects that begins with a [higher limit](limit::Adaptive::starting_at), or puts streams
//! behind a load shed of their own. A [fixed](LoadShedBuilder::fixed) limit counts them all.
//!
//! # The queue
//!
//! The queue is bounded in time rather than in length: a request may wait for [100
//! ms](LoadShedBuilder::wait). If the queue has not been empty for [100
//! ms](LoadShedBuilder::overloaded_after), it is overloaded: then the newest requests go first,
//! because their callers are likeliest to be still there, and a request may wait for only [20
//! ms](LoadShedBuilder::overloaded_wait). A request whose [deadline](crate::context) passes while
//! it waits is rejected before any work is done for it.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`limit`](LoadShedBuilder::limit) | [`Adaptive`](limit::Adaptive), from 20 | what a service
//! can do at once is rarely known and seldom stays the same |
//! | [`long_lived`](LoadShedBuilder::long_lived) | 10,000 calls | more streams than most servers
//! have; a bound on what one that hangs holds |
//! | [`queue`](LoadShedBuilder::queue) | 1,000 requests | the time they may wait is the bound that
//! matters; this one is for memory |
//! | [`wait`](LoadShedBuilder::wait) | 100 ms | outlasts a burst |
//! | [`overloaded_wait`](LoadShedBuilder::overloaded_wait) | 20 ms | the best of those simulated: a
//! shorter one leaves workers idle, a longer one keeps requests for nothing |
//! | [`overloaded_after`](LoadShedBuilder::overloaded_after) | 100 ms | tells lasting overload from
//! a burst |
//! | [`priority`](LoadShedBuilder::priority) | all requests matter equally | |
//! | [`retry_after`](LoadShedBuilder::retry_after) | 1 ms | a call that is refused now has the same
//! chance a moment later |
//! | [`seed`](LoadShedBuilder::seed) | random | |
//!
//! # Metrics
//!
//! What a registered load shed publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_load_shed_limit` | gauge | how many calls may be in flight, beside long-lived ones |
//! | `buttress_load_shed_in_flight` | gauge | how many calls are in flight |
//! | `buttress_load_shed_long_lived` | gauge | how many of them are long-lived |
//! | `buttress_load_shed_queued` | gauge | how many calls wait in the queue |
//! | `buttress_load_shed_shed_share` | gauge | the share of recent arrivals refused for being less
//! important than others |
//! | `buttress_load_shed_admitted_total` | counter | calls admitted |
//! | `buttress_rejected_total` (`kind` is `load_shed`) | counter | calls refused because there was
//! neither a permit nor a place in the queue, or because a more important call took their place |
//! | `buttress_load_shed_expired_total` | counter | calls that waited for as long as they may,
//! without getting a permit |
//! | `buttress_load_shed_deadline_exceeded_total` | counter | calls whose caller's deadline had
//! passed when they came, or passed while they waited |
//!
//! # Trade-offs
//!
//! A call that finds a permit takes no lock, allocates nothing, and usually writes nothing that
//! other threads write. Under overload, calls that wait and calls that end share one lock. The
//! limit is exact: no more calls are ever admitted, even while it changes. (Calls that are running
//! when it is lowered are left to end first.)
//!
//! A call that is dropped gives back its permit, or its place in the queue, at once. Work that the
//! service goes on doing for a caller that has gone is not counted here: let handlers stop when
//! they are dropped.
//!
//! A service that is not ready is not taken for overloaded: `poll_ready` passes on what it says.

mod at_once;
mod backpressure;
mod config;
mod control;
mod gate;
mod histogram;
mod inner;
pub mod limit;
mod permit;
mod priority;
mod queue;
mod queued;
mod samples;
mod stripes;
mod sync;
#[cfg(test)]
mod tests;
mod window;

pub use backpressure::Backpressure;
pub use config::LoadShedBuilder;
pub use permit::{Permit, QueueWait};
pub use priority::{Equal, Prioritize, Priority};
pub use queued::Queued;

use crate::{InvalidConfig, Name, Time};
use inner::Inner;
use std::{fmt, sync::Arc};

/// A limit on the calls in flight: a bulkhead, or concurrency limit.
///
/// The [module](self) describes its modes, with examples and the defaults.
///
/// # Clone
/// Clones are one load shed: they share the limit, and so do the layers of all modes.
#[doc(alias(
    "bulkhead",
    "concurrency_limit",
    "ConcurrencyLimit",
    "semaphore",
    "adaptive_concurrency"
))]
pub struct LoadShed<P = Equal>(Arc<Inner<P>>);

impl LoadShed {
    /// Creates a load shed with the [defaults](self#defaults), the [adaptive
    /// limit](limit::Adaptive) among them.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).built()
    }

    /// Returns the settings of a load shed, all of them at their [defaults](self#defaults).
    pub fn builder(name: impl Into<Name>) -> LoadShedBuilder {
        LoadShedBuilder::new(name.into())
    }
}

impl<P> LoadShed<P> {
    /// Returns the name that rejections by this load shed carry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Changes a [fixed](LoadShedBuilder::fixed) limit while calls run: 1 to 1,000,000.
    ///
    /// With a higher one, those who wait are let in at once. With a lower one, calls that run are
    /// left to end first.
    ///
    /// ```
    /// # use buttress::LoadShed;
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let shed = LoadShed::builder("reports").fixed(8).build()?;
    /// shed.set_limit(12)?;
    /// assert_eq!(shed.snapshot().limit, 12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it is 0 or above 1,000,000, or if the limit is not a fixed one: what a rule finds, it
    /// would change back.
    pub fn set_limit(&self, limit: usize) -> Result<(), InvalidConfig> {
        self.0.set_limit(limit)
    }

    /// Returns what the load shed has done so far, and what it is doing.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }
}

impl<P> Clone for LoadShed<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for LoadShed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a [`LoadShed`] has done so far, and what it is doing.
///
/// [`LoadShed::snapshot`] takes it. With the `registry` feature it can be serialised, and the
/// metrics in the [module's table](self#metrics) are made from it. What ends in `_total` counts
/// since the load shed was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the load shed.
    pub name: &'static str,
    /// How many calls may be in flight, beside long-lived ones.
    pub limit: usize,
    /// How many calls are in flight. For a while this is more than a limit that has been lowered.
    pub in_flight: usize,
    /// How many of them are [long-lived](self#long-lived-calls). Always 0 if the limit is fixed.
    pub long_lived: usize,
    /// How many calls wait in the queue, without the callers that backpressure holds back.
    pub queued: usize,
    /// Calls that were admitted.
    pub admitted_total: u64,
    /// Calls refused because there was neither a permit nor a place in the queue, or because a more
    /// important call took their place.
    pub rejected_total: u64,
    /// Calls that waited for as long as they may, without getting a permit.
    pub expired_total: u64,
    /// Calls whose caller's deadline had passed when they came, or passed while they waited.
    pub deadline_exceeded_total: u64,
    /// The share of recent arrivals that are refused for being less important than others.
    pub shed_share: f64,
}
