//! How many calls may run at once, and what becomes of the rest.
//!
//! A [`LoadShed`] decides whether a call may start now, has to wait, or is turned away, by the
//! number of calls in flight: a bulkhead, or concurrency limit. A service that is asked for more
//! than it can do must go on doing what it can: calls that it accepts beyond that only make the
//! others late, until all are late.
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
//! A handle has three; they share its limit, and all are one line.
//!
//! | mode | a call that finds no permit | use it |
//! |---|---|---|
//! | [`queued().layer()`](LoadShed::queued) | waits in a bounded queue, 100 ms at most | **at a server's edge**: bursts are served, and only standing overload is shed |
//! | [`layer()`](LoadShed::layer) | is rejected at once | before something that has a queue of its own, or when the caller has somewhere else to go; where a service cannot be cloned |
//! | [`backpressure().layer()`](LoadShed::backpressure) | is not made: `poll_ready` waits | inside one process, when whoever calls can be slowed down: a worker that takes from a queue, a client under a balancer. **Never at the edge of a server**: there, callers that wait are a queue without an end |
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
//! [`fixed`](LoadShedBuilder::fixed) where the service's parallelism is known. Then everything that
//! waits, waits here, and for no longer than is said here. Otherwise [`Adaptive`](limit::Adaptive),
//! the default, finds it: at the cost of half a percent of the work, and some seconds to adjust
//! when the service changes. See [`limit`] for others.
//!
//! # The queue
//!
//! It is bounded in time rather than in length: a request may wait for
//! [100 ms](LoadShedBuilder::wait) while the queue is well. When it has not been empty for
//! [100 ms](LoadShedBuilder::overloaded_after) there is standing overload: then newer requests go
//! first, whose callers are likeliest to be there still, and may wait for
//! [20 ms](LoadShedBuilder::overloaded_wait) only. A request whose
//! [deadline](crate::context) passes is dropped before any work is done for it.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`limit`](LoadShedBuilder::limit) | [`Adaptive`](limit::Adaptive), from 20 | what a service can do at once is rarely known and seldom stays the same |
//! | [`queue`](LoadShedBuilder::queue) | 1,000 requests | the time they may wait is the bound that matters; this one is for memory |
//! | [`wait`](LoadShedBuilder::wait) | 100 ms | outlasts a burst |
//! | [`overloaded_wait`](LoadShedBuilder::overloaded_wait) | 20 ms | the best of those simulated: shorter leaves workers idle, longer keeps requests for nothing |
//! | [`overloaded_after`](LoadShedBuilder::overloaded_after) | 100 ms | tells standing overload from a burst |
//! | [`priority`](LoadShedBuilder::priority) | all matter equally | |
//! | [`retry_after`](LoadShedBuilder::retry_after) | 1 ms | a call that is refused now has the same chance a moment later |
//! | [`seed`](LoadShedBuilder::seed) | random | |
//!
//! # Metrics
//!
//! What a registered load shed publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_load_shed_limit` | gauge | how many calls may be in flight |
//! | `buttress_load_shed_in_flight` | gauge | how many are |
//! | `buttress_load_shed_queued` | gauge | how many wait |
//! | `buttress_load_shed_shed_share` | gauge | the share of arrivals refused for being less important than others |
//! | `buttress_load_shed_admitted_total` | counter | calls let in |
//! | `buttress_rejected_total` (`kind` is `load_shed`) | counter | calls for which there was neither a permit nor a place in the queue, or not for long |
//! | `buttress_load_shed_expired_total` | counter | calls that waited for as long as they may, in vain |
//! | `buttress_load_shed_deadline_exceeded_total` | counter | calls whose caller's deadline had passed when they came, or passed while they waited |
//!
//! # Trade-offs
//!
//! A call that finds a permit takes no lock and allocates nothing, and its threads share nothing
//! that is written; under overload, whoever waits and whoever makes room for it meet at one lock.
//! The limit is exact: never is one call more in flight, even while it changes (calls that run when
//! it is lowered are left to end first).
//!
//! A call that is dropped gives back its permit, or its place in the queue, at once. Work that the
//! service goes on doing for a caller that has gone is not seen here: let handlers stop when they
//! are dropped.
//!
//! A service that is not ready is not taken for overload: `poll_ready` passes on what it says.

mod at_once;
mod backpressure;
mod config;
mod control;
mod gate;
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

pub use backpressure::Backpressure;
pub use config::LoadShedBuilder;
pub use permit::{Permit, QueueWait};
pub use priority::{Equal, Prioritize, Priority};
pub use queued::Queued;

use crate::{Name, Time};
use inner::Inner;
use std::{fmt, sync::Arc};

/// A limit on the calls in flight.
///
/// # Clone
/// Clones are one load shed: they share the limit, and so do the layers of all its modes.
#[doc(alias(
    "bulkhead",
    "concurrency_limit",
    "ConcurrencyLimit",
    "semaphore",
    "adaptive_concurrency"
))]
pub struct LoadShed<P = Equal>(Arc<Inner<P>>);

impl LoadShed {
    /// Creates a load shed with all defaults, the [adaptive limit](limit::Adaptive) among them: see
    /// the [module](self#defaults).
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).built()
    }

    /// Begins a load shed with other settings.
    pub fn builder(name: impl Into<Name>) -> LoadShedBuilder {
        LoadShedBuilder::new(name.into())
    }
}

impl<P> LoadShed<P> {
    /// Returns the name of the load shed.
    pub fn name(&self) -> &'static str {
        self.0.name
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
/// [`LoadShed::snapshot`] takes it. With the `registry` feature it can be serialised, and its
/// numbers become the metrics in the [module's table](self#metrics). Counts are those since the
/// start.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the load shed.
    pub name: &'static str,
    /// How many calls may be in flight.
    pub limit: usize,
    /// How many calls are in flight. More than the limit while a lower limit takes effect.
    pub in_flight: usize,
    /// How many calls wait in the queue, reservations not among them.
    pub queued: usize,
    /// Calls that were let in.
    pub admitted_total: u64,
    /// Calls for which there was neither a permit nor a place in the queue, or not for long.
    pub rejected_total: u64,
    /// Calls that waited for as long as they may, in vain.
    pub expired_total: u64,
    /// Calls whose caller's deadline had passed when they came, or passed while they waited.
    pub deadline_exceeded_total: u64,
    /// The share of the arrivals of late that are refused for being less important than others.
    pub shed_share: f64,
}
