//! Timeouts for single attempts, and deadlines for whole calls.
//!
//! A [`Timeout`] limits how long one attempt may take, and nothing else: a time limiter. A
//! [`Deadline`] is the moment at which the caller stops waiting. All that is done for a call keeps
//! to its deadline, and with the layers for `DEADLINE_HEADER` in the [`http`](crate::http) module
//! so does what other services do for it. A [`DeadlineLayer`] gives calls a deadline.
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
//!     Err(Error::Rejected(r)) if r.kind() == Kind::TimedOut => println!("{r}; it may have run"),
//!     Err(other) => println!("{other}"),
//! }
//! # assert_eq!(timeout.snapshot().timed_out_total, 1);
//! # }
//! ```
//!
//! # What happens when the time is up
//!
//! The call is **cancelled**: its future is dropped, and only then does the caller get its
//! [`TimedOut`](crate::Kind::TimedOut) or [`DeadlineExceeded`](crate::Kind::DeadlineExceeded).
//! Dropping a call gives back whatever it held in this process. It does not undo what the service
//! may have done already: [`reached_service`](crate::Rejected::reached_service) tells whether that
//! is possible. A call that its caller drops is not a timeout, and is counted nowhere.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | name | none | it tells rejections and metrics of several timeouts apart |
//! | the limit of a [`Timeout`] | none | only you know how long your service takes when it is well; about three times its 99th percentile is a start |
//! | the limit of one request | that of the [`Timeout`] | most services take about as long for all requests; [`limit_by`](TimeoutLayer::limit_by) and [`run_within`](Timeout::run_within) are for others |
//! | limits for bodies, with `.http()` and `.grpc()` | the deadline, and over gRPC the timeout | see `http::BodyTimeoutLayer` |
//! | the time of a [`DeadlineLayer`] | none | only you know for how long your callers wait |
//! | the deadline of a call | none | without one, calls take as long as they take |
//!
//! # Metrics
//!
//! What a registered timeout or deadline layer publishes (feature `registry`), labelled with its
//! name as `policy`. A body that is cut off counts as a call that is.
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_timeout_timed_out_total` | counter | attempts that took longer than the limit, or whose body missed one of its own |
//! | `buttress_timeout_deadline_exceeded_total` | counter | attempts whose caller's deadline came first, before or during the attempt |
//! | `buttress_deadline_exceeded_total` | counter | calls that a [`DeadlineLayer`], or an `http::DeadlineHeaderLayer`, ended at their deadline or did not start |
//!
//! # Trade-offs
//!
//! A [`Timeout`] on a call that ends at its first poll costs no clock read, no timer and no
//! allocation. The price is that its time starts when the call is first pending: what the service
//! does before it first has to wait is not included. A call that never yields cannot be cut off at
//! all.
//!
//! The wait for a service to be ready is part of an attempt and of a call. It is before the call,
//! in `poll_ready`, so nothing can be cut off yet: when the time is up, the service says that it is
//! ready, and the call that follows is rejected, without being made. So a balancer takes such a
//! service for ready, and loses a call to it: put timeouts around a balancer, and not around each
//! of the services that it chooses from. A service with no room left by
//! [backpressure](crate::load_shed::LoadShed::backpressure) loses its place in the line.
//!
//! Over HTTP and gRPC say `.http()` or `.grpc()` to the layer: then the deadline holds to the end
//! of the response's body, and a timeout has limits for bodies, too. A body that is cut off ends
//! with an error, or with gRPC's trailers, and gives back what it held at that moment: by the
//! deadline, and by a timeout that holds for all of it, also if nobody polls it. A layer that has
//! not been told ends its calls with the head of the response: a body that stalls after that is not
//! cut off. What is read within the closure of [`Timeout::run`], as in `response.bytes()`, is
//! limited in any case, and a retry around it repeats what broke off half-way.
//!
//! Put a timeout *inside* a retry to limit each attempt, and a deadline outside to limit them all.

mod attempt;
mod call;
mod deadline;
mod limited;
mod readiness;
mod request_limit;

pub use attempt::{TimeoutFuture, TimeoutLayer, TimeoutService};
pub use call::{DeadlineFuture, DeadlineLayer, DeadlineService, DeadlineSnapshot};
pub use deadline::{Deadline, DeadlineScope};
#[cfg(feature = "http")]
pub(crate) use readiness::ReadyWait;
pub use request_limit::{RequestLimit, SameLimit};

use crate::{
    clock::{Time, nanos},
    error::{FromRejected, Kind, Name, Rejected},
    shared::Shared,
};
use readiness::Late;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A limit on how long one attempt may take.
///
/// # Clone
/// Clones are one timeout: they share their counters.
#[doc(alias("time_limiter", "TimeLimiter"))]
#[derive(Clone, Debug)]
pub struct Timeout(Shared<Core>);

#[derive(Debug)]
struct Core {
    name: &'static str,
    limit: Duration,
    /// The limit in nanoseconds, as calls count it.
    limit_nanos: u64,
    timed_out: AtomicU64,
    deadline_exceeded: AtomicU64,
}

impl Timeout {
    /// Creates a timeout of this length.
    ///
    /// There is no default, because only you know how long your service takes when it is well.
    /// About three times its 99th percentile is a start.
    ///
    /// With zero, only calls that end at their first poll get through. [`Duration::MAX`] never
    /// fires: then only the deadline of the [context](crate::context) limits the call.
    pub fn new(name: impl Into<Name>, limit: Duration) -> Self {
        Self(Shared::new(Core {
            name: name.into().as_str(),
            limit,
            limit_nanos: nanos(limit),
            timed_out: AtomicU64::new(0),
            deadline_exceeded: AtomicU64::new(0),
        }))
    }

    /// Returns the name that rejections by this timeout carry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns how long an attempt may take.
    #[doc(alias = "duration")]
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// Returns a tower layer that limits every call by this timeout, and by the deadline of the
    /// [context](crate::context) if that comes sooner.
    pub fn layer(&self) -> TimeoutLayer {
        TimeoutLayer::new(self.clone())
    }

    /// Runs `op`, but not for longer than the timeout, nor past the deadline of the
    /// [context](crate::context).
    ///
    /// # Errors
    /// A [`Rejected`] of [`Kind::TimedOut`] or [`Kind::DeadlineExceeded`] as `E`, or what `op`
    /// returned.
    pub async fn run<T, E, Fut>(&self, op: impl FnOnce() -> Fut) -> Result<T, E>
    where
        E: FromRejected,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_within(self.limit(), op).await
    }

    /// Runs `op`, but not for longer than `limit` or the timeout, whichever is shorter, nor past
    /// the deadline of the [context](crate::context).
    ///
    /// For calls of which one may take longer than another: the limit of the timeout itself is the
    /// longest that any of them gets.
    ///
    /// # Errors
    /// A [`Rejected`] of [`Kind::TimedOut`] or [`Kind::DeadlineExceeded`] as `E`, or what `op`
    /// returned.
    pub async fn run_within<T, E, Fut>(
        &self,
        limit: Duration,
        op: impl FnOnce() -> Fut,
    ) -> Result<T, E>
    where
        E: FromRejected,
        Fut: Future<Output = Result<T, E>>,
    {
        TimeoutFuture::start_now(self, limit, op).await
    }

    /// Returns what the timeout has done so far.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.0.name,
            limit: self.0.limit,
            timed_out_total: self.0.timed_out.load(Relaxed),
            deadline_exceeded_total: self.0.deadline_exceeded.load(Relaxed),
        }
    }

    fn limit_nanos(&self) -> u64 {
        self.0.limit_nanos
    }

    /// Counts and returns the rejection of a call whose caller's deadline has passed: there is
    /// nobody to work for.
    #[cold]
    pub(crate) fn too_late(&self, deadline: Deadline) -> Rejected {
        self.0.deadline_exceeded.fetch_add(1, Relaxed);
        deadline.exceeded(self.0.name)
    }

    /// Counts and returns the rejection of a call that took longer than its limit.
    #[cold]
    pub(crate) fn timed_out(&self) -> Rejected {
        self.0.timed_out.fetch_add(1, Relaxed);
        Rejected::new(Kind::TimedOut, self.0.name)
    }

    /// Counts and returns the rejection of a call whose service was not ready for as long as the
    /// call may take.
    #[cold]
    fn not_ready(&self) -> Rejected {
        self.timed_out().without_reaching_service()
    }

    /// Counts and returns the rejection of a call whose service was not ready in time.
    #[cold]
    fn not_ready_by(&self, late: Late) -> Rejected {
        match late {
            Late::Limit => self.not_ready(),
            Late::Deadline(deadline) => self.too_late(deadline),
        }
    }

    /// Counts and returns the rejection of a call whose time is up. Which time that was, the
    /// timeout or the deadline, follows from `until`.
    #[cold]
    fn expired(&self, until: Time, deadline: Deadline) -> Rejected {
        debug_assert!(
            until <= deadline.time(),
            "no call is waited for longer than its deadline"
        );
        match deadline.time() <= until {
            true => self.too_late(deadline),
            false => self.timed_out(),
        }
    }
}

/// What a [`Timeout`] has done so far.
///
/// [`Timeout::snapshot`] takes it. With the `registry` feature it can be serialised, and the
/// metrics in the [module's table](self#metrics) are made from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the timeout.
    pub name: &'static str,
    /// How long an attempt may take.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub limit: Duration,
    /// Attempts that took longer than the limit, since the timeout was made.
    pub timed_out_total: u64,
    /// Attempts whose caller's deadline came first, before or during the attempt, since the timeout
    /// was made.
    pub deadline_exceeded_total: u64,
}
