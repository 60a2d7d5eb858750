//! How long an attempt may take, and until when a whole call is worth working on.
//!
//! A [`Timeout`] limits one attempt, and nothing else; a [`Deadline`] is the moment at which the
//! caller stops waiting, and everything done for that call, here and further on, keeps to it.
//!
//! ```
//! use buttress::{Error, Kind, timeout::{Deadline, Timeout}};
//! use std::{io, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let timeout = Timeout::new("search", Duration::from_millis(5));
//! let answer: Result<(), Error<io::Error>> = timeout
//!     .run(async || {
//!         std::future::pending::<()>().await;
//!         Ok(())
//!     })
//!     .await;
//! match answer {
//!     Ok(()) => println!("found"),
//!     Err(Error::Rejected(r)) if r.kind() == Kind::TimedOut => println!("{r}, but it may have run"),
//!     Err(other) => println!("{other}"),
//! }
//! # assert_eq!(timeout.snapshot().timed_out_total, 1);
//! # }
//! ```
//!
//! # What happens when the time is up
//! The call is **cancelled**: its future is dropped, and only then does the caller get its
//! [`TimedOut`](crate::Kind::TimedOut) or [`DeadlineExceeded`](crate::Kind::DeadlineExceeded).
//! Dropping a call gives back whatever it held in this process. It does not undo what the service
//! may have done already; [`reached_service`](crate::Rejected::reached_service) says so. A call
//! that its caller drops is not a timeout, and is counted nowhere.
//!
//! # Trade-offs
//! A call that ends at its first poll costs no clock read, no timer and no allocation. The price
//! is that the time runs from the moment at which the call is pending for the first time, and so
//! without what the service did before it first had to wait. A call that never yields cannot be
//! cut off at all.
//!
//! Put a timeout *inside* a retry to limit each attempt, and a deadline outside to limit them all.

mod attempt;
mod call;
mod deadline;
mod limited;

pub use attempt::{TimeoutFuture, TimeoutLayer, TimeoutService};
pub use call::{DeadlineFuture, DeadlineLayer, DeadlineService};
pub use deadline::{Deadline, DeadlineScope};

use crate::{
    clock::Time,
    error::{FromRejected, Kind, Name, Rejected},
    shared::Shared,
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A limit on how long one attempt may take. Clones share their counters.
#[derive(Clone, Debug)]
pub struct Timeout(Shared<Core>);

#[derive(Debug)]
struct Core {
    name: &'static str,
    limit: Duration,
    timed_out: AtomicU64,
    deadline_exceeded: AtomicU64,
}

impl Timeout {
    /// A timeout of this length. There is no default: only you know how long your service takes
    /// when it is well; some three times its 99th percentile is a start.
    ///
    /// Zero lets through what ends without waiting, and [`Duration::MAX`] never fires: then only
    /// the deadline of the [context](crate::context) limits the call.
    pub fn new(name: impl Into<Name>, limit: Duration) -> Self {
        Self(Shared::new(Core {
            name: name.into().as_str(),
            limit,
            timed_out: AtomicU64::new(0),
            deadline_exceeded: AtomicU64::new(0),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// How long an attempt may take.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// This timeout as a tower layer.
    pub fn layer(&self) -> TimeoutLayer {
        TimeoutLayer::new(self.clone())
    }

    /// Runs `op`, but not for longer than the timeout, nor past the deadline of the context.
    ///
    /// # Errors
    /// The [`Rejected`] as `E` if the time is up, or what `op` returned.
    pub async fn run<T, E: FromRejected>(
        &self,
        op: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        TimeoutFuture::start(self, || op()).await
    }

    /// What it has done so far.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.0.name,
            limit: self.0.limit,
            timed_out_total: self.0.timed_out.load(Relaxed),
            deadline_exceeded_total: self.0.deadline_exceeded.load(Relaxed),
        }
    }

    /// The caller's deadline has passed already: there is nobody to work for.
    #[cold]
    fn too_late(&self) -> Rejected {
        self.0.deadline_exceeded.fetch_add(1, Relaxed);
        Rejected::new(Kind::DeadlineExceeded, self.0.name)
    }

    /// The time is up: which time?
    #[cold]
    fn expired(&self, until: Time, deadline: Option<Time>) -> Rejected {
        if deadline.is_some_and(|deadline| deadline <= until) {
            self.too_late().having_reached_service()
        } else {
            self.0.timed_out.fetch_add(1, Relaxed);
            Rejected::new(Kind::TimedOut, self.0.name)
        }
    }
}

/// What a [`Timeout`] has done.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: &'static str,
    /// How long an attempt may take.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub limit: Duration,
    /// Calls that took longer.
    pub timed_out_total: u64,
    /// Calls whose caller's deadline came first, before or during the call.
    pub deadline_exceeded_total: u64,
}
