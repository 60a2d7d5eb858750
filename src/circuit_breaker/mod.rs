//! Stops calling a dependency that fails, and finds out when it is back.
//!
//! **The decision.** Closed, every call passes, and its end is counted in a sliding window. The
//! breaker trips when the share of failures reaches the failure rate, when too many calls in a row
//! have failed, or when too many are slow. Open, it rejects everything at once with
//! [`Kind::CircuitOpen`](crate::Kind::CircuitOpen) and the time to come back. After the open time
//! it is half-open: a few probes pass, and decide whether it closes or opens again, for longer.
//!
//! ```
//! use buttress::{CircuitBreaker, Error, Kind};
//! use std::{io, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let breaker = CircuitBreaker::builder("db")
//!     .consecutive_failures(2)
//!     .open_for(Duration::from_secs(5))
//!     .build()?;
//! let query = async || breaker.run(async || Err::<u64, _>(Error::Service(io::Error::other("gone")))).await;
//!
//! for _ in 0..2 {
//!     assert!(matches!(query().await, Err(Error::Service(_))));
//! }
//! match query().await {
//!     Ok(rows) => println!("{rows} rows"),
//!     Err(Error::Service(error)) => println!("the database failed: {error}"),
//!     Err(Error::Rejected(rejected)) => {
//!         // Not sent: serve something else, or say when to come back.
//!         assert_eq!(rejected.kind(), Kind::CircuitOpen);
//!         assert!(rejected.retry_after() <= Some(Duration::from_secs(6)));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! As a tower layer: `ServiceBuilder::new().layer(breaker.layer())`. Layers of one handle, their
//! services and all clones share one state.
//!
//! **What counts.** [`Outcome`](crate::Outcome)s, as the layer's classifier sees them.
//! - `Failure` and a panic are failures.
//! - `Overloaded` never is: a breaker that counts it keeps out the calls that a full dependency
//!   could still have served. The wait it asks for is kept: the breaker, should it trip for another
//!   reason, stays open for at least as long.
//! - `Ignored` says nothing, and neither does a call that its caller dropped, unless it had run for
//!   the [slow duration](CircuitBreakerBuilder::slow_call_duration): then it is a failure. So a timeout outside
//!   the breaker opens it when the dependency hangs.
//! - With a [slow-call rate](CircuitBreakerBuilder::slow_call_rate), running calls count as slow as soon as they
//!   are, so a dependency that ends no call at all still trips it.
//! - What ends after the state has changed counts in the totals and teaches nothing: no second trip,
//!   and no verdict over a dependency that is being probed.
//!
//! **State.** [`CircuitBreaker::state`] tells what the next call would find: half-open from the
//! deadline on. The transition itself, and its event, happen with that call. The rates are looked
//! at whenever a call ends, and now and then while calls are running.
//!
//! **Trade-offs.**
//! - A breaker turns a partial failure into a complete one. In front of a sharded store of which
//!   four shards in ten are down, a breaker at 50 % is open most of the time, and the healthy 60 %
//!   get 9 % availability. Where failures follow a key (host, shard, tenant), use one breaker per key:
//!   [`CircuitBreakerBuilder::keyed`].
//! - It is all or nothing. Where a dependency is slow because it is full, limit the load instead.
//! - State is local to the process, on purpose: one node with a broken network must not open the
//!   breakers of all.
//! - A window in time counts to a tenth of itself and costs neither a lock nor a shared write; a
//!   [window of calls](CircuitBreakerBuilder::count_window) is exact and takes a short lock per call.
//! - The probe's caller pays for finding out. [`CircuitBreakerBuilder::observe_only`] tells what a breaker would
//!   do before it does.

mod breaker;
mod circuit;
mod config;
mod count_window;
mod inflight;
mod keyed;
mod map;
mod phase;
mod probes;
mod shared_circuit;
mod snapshot;
#[cfg(test)]
mod tests;
mod time_window;
mod totals;
mod verdict;
mod wakers;
mod window;

pub use breaker::Permit;
pub use config::CircuitBreakerBuilder;
pub use keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerBuilder, KeyedPermit, KeyedSnapshot};
pub use snapshot::{Mode, Reason, Snapshot, State, Transition};

use crate::{
    Name,
    clock::{Now, Time},
    error::FromRejected,
    guard::{self, Admission, End, Guard, GuardBase, GuardLayer, Never, WaitProgress},
};
use breaker::Breaker;
use std::{fmt, sync::Arc, task::Context};
use tokio::sync::watch;

/// A circuit breaker. Clones share its state.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Breaker>);

impl CircuitBreaker {
    /// A breaker with the defaults that [`CircuitBreakerBuilder`]'s setters state.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).unchecked()
    }

    /// Settings for a breaker.
    pub fn builder(name: impl Into<Name>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    /// The name that its rejections carry.
    pub fn name(&self) -> &'static str {
        self.0.cfg.name
    }

    /// A tower layer. All layers of this handle and of its clones share one state.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }

    /// Runs `op` if the breaker lets it; an `Err` is a failure.
    ///
    /// # Errors
    /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run<T, E: FromRejected>(
        &self,
        op: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        guard::run(self, &(), op).await
    }

    /// What the next call would find.
    pub fn state(&self) -> State {
        self.0.circuit.state(Time::now())
    }

    /// Opens it, until [`reset`](Self::reset) or [`force_closed`](Self::force_closed): no time
    /// out, no probes. Even if it is [only observing](Self::observe_only).
    pub fn force_open(&self) {
        self.0.force_open();
    }

    /// Closes it, forgets all calls, and does not trip until [`reset`](Self::reset) or
    /// [`force_open`](Self::force_open). It goes on counting.
    pub fn force_closed(&self) {
        self.0.force_closed();
    }

    /// Closes it, forgets all calls, ends what was forced, and lets the rules decide again.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// From now on rejects nothing, or rejects again. The state goes on as it is: what would have
    /// been rejected until now will be.
    pub fn observe_only(&self, observe: bool) {
        self.0.observe(observe);
    }

    /// Tells of transitions: of the latest one, in order.
    pub fn transitions(&self) -> watch::Receiver<Transition> {
        self.0.circuit.transitions()
    }

    /// Everything that can be seen of it.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot(Time::now())
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl GuardBase for CircuitBreaker {
    type Permit = Permit;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(permit, end, now);
    }
    #[inline]
    fn on_pending(&self, permit: &mut Permit, now: &Now) {
        self.0.on_pending(permit, now);
    }
    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        self.0.circuit.poll_closed(cx, now)
    }
}

impl<Req> Guard<Req> for CircuitBreaker {
    #[inline]
    fn admit(&self, _: &Req, now: &Now) -> Admission<Permit, Never> {
        match self.0.admit(now) {
            Ok(permit) => Admission::Admitted(permit),
            Err(rejected) => Admission::Refused(rejected),
        }
    }
    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut Context<'_>,
        _: &Now,
    ) -> WaitProgress<Permit> {
        match *wait {}
    }
}
