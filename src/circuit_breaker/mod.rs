//! Stops calling a dependency that fails, and finds out when it is back.
//!
//! While the breaker is closed, every call passes, and a sliding window counts how calls end. It
//! trips, which means that it opens, when the share of failures reaches the failure rate, when too
//! many calls in a row have failed, when too many are slow, or when callers give up one after the
//! other and nobody is answered. While it is open, it rejects every call at once with
//! [`Kind::CircuitOpen`](crate::Kind::CircuitOpen) and the time to come back. After the open time
//! it is half-open: a few calls pass as probes, and decide whether it closes, or opens again for
//! longer.
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
//! let query = async || {
//!     breaker.run(async || Err::<u64, _>(Error::Service(io::Error::other("gone")))).await
//! };
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
//! As a tower layer: `ServiceBuilder::new().layer(breaker.layer().http())`, or with `.grpc()` or
//! `.classify(..)` in place of `.http()`. All layers of one handle, their services and all clones
//! share one state.
//!
//! # What counts
//!
//! The breaker counts [`Outcome`]s, which the layer's classifier makes of results.
//! - A `Failure` is a failure, and so is a panic.
//! - So is an error of the inner service's `poll_ready`, such as a connection that cannot be made,
//!   except for a [keyed breaker](KeyedCircuitBreaker), since there is no request yet. After the
//!   open time it counts as a probe that failed.
//! - `Overloaded` never is: a breaker that counted it would keep out calls that a full dependency
//!   could still have served. If the dependency says how long to wait, and the breaker trips for
//!   another reason before a call has succeeded, it stays open until then, within
//!   [`max_retry_after`](CircuitBreakerBuilder::max_retry_after). It can also [open for that
//!   time](CircuitBreakerBuilder::open_when_overloaded).
//! - `Ignored` is not counted, and neither is what never reached the dependency: a call that
//!   another policy refused, whose deadline had passed, or whose own request broke off.
//! - A call that was cut off by a limit of yours, inside the breaker or outside of it, is a
//!   failure, if the dependency had at least half of that limit. Of a deadline that other calls had
//!   used up it had less; then it says what a call says whose caller left.
//! - A call whose caller left, or had chosen the limit that cut it off, [says nothing
//!   alone](#calls-that-are-given-up).
//! - With a [slow-call rate](CircuitBreakerBuilder::slow_call_rate), a running call counts as slow
//!   as soon as it has run for that long. So a dependency that answers no call at all still trips
//!   the breaker.
//! - A call that ends after the state has changed is counted in the totals, but not in the window:
//!   it can neither trip the breaker again, nor decide about a dependency that is being probed.
//!
//! # Calls that are given up
//!
//! A caller who leaves may be impatient, or the dependency hangs. The breaker compares with how
//! long successes usually take, from the service's poll to the answer (its head, where that has a
//! body), without waits of other policies. A success that was there at the first poll is left out:
//! calls that are given up have all been waited for.
//! - A call that was left before twice the usual time, or before 100 ms, counts nowhere.
//! - Later ones open the breaker if nobody is answered between them: 20 of them, the first of which
//!   began three times the usual time ago, at least a second. Where only some calls are answered
//!   anyway, it takes more: 200 where it is one in ten.
//! - While no success is known, it takes 30 calls that were left after a second or later, and 10 s.
//! - They never count as failures in a row, nor in the failure rate.
//!
//! [`abandoned_after`](CircuitBreakerBuilder::abandoned_after) makes them failures from a time on,
//! and [`ignore_abandoned`](CircuitBreakerBuilder::ignore_abandoned) has them count nowhere.
//! [`detect_partial_hangs`](CircuitBreakerBuilder::detect_partial_hangs) also notices a dependency
//! that hangs for half of its callers or more.
//!
//! Where no rule can tell, because a service that hangs and one that is well look the same:
//! - Nothing has been answered since the start, and all callers leave after a second or later. The
//!   service may need two seconds, or hang. The breaker opens after 10 s, and then refuses a
//!   patient caller too.
//! - The same, but all leave before a second, as in a search that follows each keystroke. It never
//!   opens.
//! - All leave before twice the usual time. A hang looks like a deploy that made the service
//!   slower.
//! - Six in ten calls are left where none was. A route hangs, or a slow one is newly called: a
//!   breaker per route tells these apart.
//! - A service that hangs for some of its callers from the start. Nothing usual is known.
//!
//! A [`Timeout`](crate::Timeout) of your own answers the first three: what it cuts off has failed.
//!
//! # States
//!
//! ```text
//!               failure rate, failures in a row, slow-call rate,
//!               calls given up with no answer between them, or
//!               a wait that was asked for (`open_when_overloaded`)
//!     Closed ───────────────────────────────────────────────────▶ Open ◀─────┐
//!       ▲                                                          │         │
//!       │                                                          │ the     │ too many
//!       │ enough probes succeeded                                  │ open    │ probes failed:
//!       │ (a ramp lets in more and more)                           │ time    │ for longer
//!       │                                                          │ is over │ than before
//!       │                                                          ▼         │
//!       └────────────────────────────────────────────────────── HalfOpen ────┘
//! ```
//!
//! [`CircuitBreaker::state`] returns what the next call would find, so it is half-open as soon as
//! the open time is over. The transition itself, and its event, happen with that next call. The
//! rates are looked at whenever a call ends, and with a slow-call rate also while calls run. A
//! state set by [`force_open`](CircuitBreaker::force_open) or
//! [`force_closed`](CircuitBreaker::force_closed) lasts until [`reset`](CircuitBreaker::reset),
//! which closes the breaker and lets the rules decide again.
//!
//! What a probe says, while the breaker is half-open:
//! - It succeeds with a success, and with what is `Ignored`, which is an answer. The head of an
//!   HTTP response decides, or the first message of a gRPC stream: a body may take longer than a
//!   probe. If that body fails later, this is counted as the failure of any call; as a failed
//!   probe, if other probes have yet to decide.
//! - A failure fails it.
//! - `Overloaded` has the next probe wait for as long as was asked, at least a second. The second
//!   such answer in a row closes the breaker: a closed one leaves a full dependency alone too.
//! - If its caller leaves, the next call is the probe. The third in a row that was left late, by
//!   the usual time from before the trip, opens it again; so does the third that is still running
//!   when its [time](CircuitBreakerBuilder::probe_timeout) is over.
//! - If it was refused before it reached the dependency, the next call is the probe as well. If
//!   nothing else is met for as long as the breaker may be open, it closes: nothing is sent then
//!   either way.
//! - Of those that say nothing, eight in a row hand their place on at once, or twice as many as
//!   there are probes, and the next ones begin 250 ms apart.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`window`](CircuitBreakerBuilder::window) | 10 s | long enough to reach the minimum at two calls a second, short enough that earlier successes do not hide a failure |
//! | [`failure_rate`](CircuitBreakerBuilder::failure_rate) | 0.5 | a dependency that answers most calls is worth calling |
//! | [`minimum_calls`](CircuitBreakerBuilder::minimum_calls) | 20, in ten windows at most | with fewer, chance decides |
//! | [`consecutive_failures`](CircuitBreakerBuilder::consecutive_failures) | 5 | a dependency that is gone is noticed after five calls |
//! | [`consecutive_failures_within`](CircuitBreakerBuilder::consecutive_failures_within) | 60 s from one to the next | of calls that come more rarely an open breaker would reject none |
//! | [`slow_call_rate`](CircuitBreakerBuilder::slow_call_rate) | off | what is slow depends on the dependency |
//! | [`slow_call_duration`](CircuitBreakerBuilder::slow_call_duration) | 250 ms | where an answer to a person begins to feel late |
//! | [`abandoned_after`](CircuitBreakerBuilder::abandoned_after), [`ignore_abandoned`](CircuitBreakerBuilder::ignore_abandoned) | off: compared with the usual | a fixed time is too short for one service and too long for another |
//! | [`detect_partial_hangs`](CircuitBreakerBuilder::detect_partial_hangs) | off | it also opens where a slow route that callers leave is newly called |
//! | [`max_retry_after`](CircuitBreakerBuilder::max_retry_after) | `max_open_for` | a wait of a day is a mistake, or one user's |
//! | [`open_when_overloaded`](CircuitBreakerBuilder::open_when_overloaded) | off | a refusal is often about one user, not about all |
//! | [`open_for`](CircuitBreakerBuilder::open_for) | 5 s | a restart takes about that long |
//! | [`open_growth`](CircuitBreakerBuilder::open_growth), [`max_open_for`](CircuitBreakerBuilder::max_open_for) | twice as long whenever probes fail, up to 60 s | a dependency that stays away need not be asked as often |
//! | [`open_jitter`](CircuitBreakerBuilder::open_jitter) | 0.2 | a fleet that tripped together does not probe together |
//! | [`probes`](CircuitBreakerBuilder::probes), [`probe_success_ratio`](CircuitBreakerBuilder::probe_success_ratio) | 1, which has to succeed | the least load on something that may be ill |
//! | [`probe_timeout`](CircuitBreakerBuilder::probe_timeout) | 10 s | longer than nearly every timeout |
//! | [`ramp`](CircuitBreakerBuilder::ramp) | off | with few callers, a dependency that passed its probes can take all calls at once |
//! | [`observe_only`](CircuitBreakerBuilder::observe_only) | false | |
//! | [`seed`](CircuitBreakerBuilder::seed) | random | |
//! | [`max_keys`](KeyedCircuitBreakerBuilder::max_keys) | 10 000 | more than most services have hosts or shards; 18 MB when all are taken |
//!
//! # Metrics
//!
//! What a registered breaker publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_circuit_breaker_state` (`state` is `closed`, `open`, `half_open`) | gauge | 1 for the present state and 0 for the others; for a keyed breaker, the number of keys in each state |
//! | `buttress_circuit_breaker_trips_total` | counter | how often it has opened by itself, after failed probes too |
//! | `buttress_circuit_breaker_calls_total` (`outcome` is `success`, `failure`) | counter | calls with this outcome |
//! | `buttress_circuit_breaker_slow_calls_total` | counter | calls that succeeded or failed, and were slow |
//! | `buttress_circuit_breaker_would_reject_total` | counter | calls that an observing breaker let in and would have rejected |
//! | `buttress_circuit_breaker_evicted_total`, `_evicted_open_total` | counter | of a keyed breaker: keys that were forgotten to make room; those of them that were not closed |
//! | `buttress_rejected_total` (`kind` is `circuit_breaker`) | counter | calls rejected |
//!
//! # Trade-offs
//!
//! - A breaker turns a partial failure into a complete one. In front of a sharded store with four
//!   shards in ten down, a breaker at a failure rate of 0.5 is open most of the time, and only 9 %
//!   of the calls to the healthy shards are answered. Where failures follow a key (host, shard,
//!   tenant), use one breaker per key: [`CircuitBreakerBuilder::keyed`].
//! - It is all or nothing. Where a dependency is slow because it is full, limit the load instead,
//!   with a [load shed](crate::LoadShed) or a [throttle](crate::Throttle).
//! - State is local to the process, on purpose: one node with a broken network must not open the
//!   breakers of all others.
//! - A window in time is exact to a tenth of its length, and costs neither a lock nor a write that
//!   threads share. A [window of calls](CircuitBreakerBuilder::count_window) is exact, and takes a
//!   short lock per call.
//! - To a balancer that goes by load, an open breaker looks like the fastest endpoint:
//!   [`unready_when_open`](crate::guard::GuardLayer::unready_when_open) makes it pass over it.
//! - A hang for some of the callers is not noticed by default, and one of which nothing is known
//!   yet only after 10 s. Your own timeouts are what notices it sooner.
//! - A dependency that hangs, and whose callers all leave before twice its usual time, gets one
//!   call at a time while the breaker is half-open, and not none.
//! - Real calls serve as probes, so their callers bear a probe that fails.
//! - Try a new breaker with [`CircuitBreakerBuilder::observe_only`] first: its counts tell what it
//!   would have rejected.

mod abandoned;
mod breaker;
mod circuit;
mod config;
mod config_ends;
mod count_window;
mod ends;
mod failure_row;
mod inflight;
mod keyed;
mod long_rate;
mod map;
mod permit;
mod phase;
mod probes;
mod shared_circuit;
mod snapshot;
#[cfg(test)]
mod tests;
mod time_window;
mod totals;
mod unready;
mod verdict;
mod waits;
mod wakers;
mod window;

pub use config::CircuitBreakerBuilder;
pub use keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerBuilder, KeyedPermit, KeyedSnapshot};
pub use permit::Permit;
pub use snapshot::{Mode, Reason, Snapshot, State, Transition};
pub use unready::{UnreadyWhenOpenLayer, UnreadyWhenOpenService};

use crate::{
    Name, Outcome,
    clock::{Now, Time},
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never},
};
use breaker::Breaker;
use std::{fmt, sync::Arc, task::Context, time::Duration};
use tokio::sync::watch;

/// A circuit breaker, which stops calls to a dependency that fails, and finds out when it is back.
///
/// It is a handle: clones, and all layers made from them, share one state. The [module](self)
/// describes how it decides, with an example and the defaults.
#[doc(alias = "fuse")]
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Breaker>);

impl CircuitBreaker {
    /// Creates a breaker with the [defaults](self#defaults).
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).unchecked()
    }

    /// Returns the settings of a breaker, all of them at their [defaults](self#defaults).
    pub fn builder(name: impl Into<Name>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    /// Returns the name that rejections by this breaker carry.
    pub fn name(&self) -> &'static str {
        self.0.cfg.name
    }

    /// Returns a tower layer, which still has to be told what a failure looks like: by `.http()`,
    /// `.grpc()` or [`GuardLayer::classify`]. All layers of this handle and of its clones share one
    /// state.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }

    guard_runs! {
        /// Runs `op` if the breaker admits it.
        ///
        /// An `Err` is a failure, unless a policy inside `op` refused the call. Where some errors
        /// say nothing about the dependency, such as a row that is not there, tell them apart with
        /// [`classify`](Self::classify).
        run
    }
    guard_runs!(classify);

    /// Returns the state that the next call would find. Takes no lock.
    ///
    /// It is half-open as soon as the open time is over, even if no call has come since.
    pub fn state(&self) -> State {
        self.0.circuit.state(Time::now())
    }

    /// Opens the breaker until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    ///
    /// It does not close by itself, and lets no probes through. It rejects calls even if it was set
    /// to [only observe](Self::observe_only).
    pub fn force_open(&self) {
        self.0.force_open();
    }

    /// Closes the breaker until [`reset`](Self::reset) or [`force_open`](Self::force_open).
    ///
    /// It forgets the calls of its window and goes on counting calls, but does not trip.
    pub fn force_closed(&self) {
        self.0.force_closed();
    }

    /// Closes the breaker, and lets the rules decide again if a state was forced.
    ///
    /// It forgets the calls of its window, how often probes have failed, and how long the
    /// dependency asked to be left alone.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Sets whether the breaker only observes, which means that it rejects nothing and counts what
    /// it would have rejected.
    ///
    /// The state stays as it is: if the breaker is open when it stops observing, it rejects calls
    /// from then on.
    pub fn observe_only(&self, observe: bool) {
        self.0.observe(observe);
    }

    /// Returns a receiver of this breaker's changes of state.
    ///
    /// The receiver holds the latest change only. It sees changes in their order, and a gap between
    /// two [epochs](Transition::epoch) tells how many it missed.
    pub fn transitions(&self) -> watch::Receiver<Transition> {
        self.0.circuit.transitions()
    }

    /// Returns what the breaker has done so far, and what it would do now.
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

    #[inline(always)]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(permit, end, now);
    }
    #[inline]
    fn on_pending(&self, permit: &mut Permit, now: &Now) {
        self.0.on_pending(permit, now);
    }
    fn on_wait_begin(&self, permit: &mut Permit, now: &Now) {
        self.0.on_wait_begin(permit, now);
    }
    fn on_wait_end(&self, permit: &mut Permit, waited: Duration, now: &Now) {
        self.0.on_wait_end(permit, waited, now);
    }
    #[inline]
    fn on_answer(&self, permit: &mut Permit, outcome: Outcome, now: &Now) {
        self.0.on_answer(permit, outcome, now);
    }
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        self.0.circuit.poll_closed(cx, now)
    }
    fn ready_failed(&self, now: &Now) {
        self.0.ready_failed(now);
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
}
