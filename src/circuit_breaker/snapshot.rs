//! What can be seen of a breaker.

use std::time::Duration;

/// The state of a breaker, as the next call would find it.
///
/// The [module](super#states) has the diagram.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass as probes, to find out whether the dependency is back.
    HalfOpen,
}

/// The way in which a breaker's state is decided, and whether it rejects calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// The results of calls decide.
    Automatic,
    /// The results of calls decide, but no call is rejected.
    ObserveOnly,
    /// It is open until it is reset or forced closed.
    ForcedOpen,
    /// It is closed until it is reset or forced open.
    ForcedClosed,
}

/// The reason for which a breaker changed its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reason {
    /// The breaker was made, and has not changed its state yet.
    Created,
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too many calls in a row failed.
    ConsecutiveFailures,
    /// Too large a share of the calls was slow, or is taking too long already.
    SlowCallRate,
    /// Too many calls were given up on by their callers, late and with no answer in between; or an
    /// unusual share of them, if the breaker [looks for
    /// that](super::CircuitBreakerBuilder::detect_partial_hangs).
    Abandoned,
    /// The dependency asked to be left alone, and the breaker [does
    /// so](super::CircuitBreakerBuilder::open_when_overloaded).
    Overloaded,
    /// The open time is over.
    WaitedOut,
    /// Enough probes succeeded; or the dependency was full twice in a row, or all probes were
    /// refused before they reached it, which a closed breaker does not hold against it either.
    ProbesSucceeded,
    /// Too many probes failed, or three in a row hung.
    ProbesFailed,
    /// It was forced.
    Forced,
    /// It was reset.
    Reset,
}

/// A change of a breaker's state.
///
/// [`CircuitBreaker::transitions`](super::CircuitBreaker::transitions) tells of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state since.
    pub to: State,
    /// Why it changed.
    pub reason: Reason,
    /// A number that grows by one with every change. A receiver sees the latest change only; a gap
    /// here tells how many it missed. A reset of a closed breaker counts too, though it changes no
    /// state.
    pub epoch: u64,
}

/// What a breaker has done so far, and what it would do now.
///
/// [`CircuitBreaker::snapshot`](super::CircuitBreaker::snapshot) takes it. With the `registry`
/// feature it can be serialised, and the metrics in the [module's table](super#metrics) are made
/// from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name.
    pub name: &'static str,
    /// The state that the next call would find.
    pub state: State,
    /// How the state is decided.
    pub mode: Mode,
    /// Calls in the window, all of which have ended.
    pub calls: u64,
    /// Calls in the window that failed.
    pub failures: u64,
    /// Calls in the window that were slow, whether or not they failed.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// Running calls that are slow already. Always 0 without a slow-call rate.
    pub in_flight_slow: u64,
    /// The share of calls that a ramp lets in, from 0 to 1. It is 1 if no ramp is under way.
    pub admitted_share: f64,
    /// How long until a call may be let in again, if calls are being rejected and that is known:
    /// the rest of the open time, or of the wait that a full dependency asked a probe for.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub retry_after: Option<Duration>,
    /// Calls rejected since the breaker was made.
    pub rejected_total: u64,
    /// Calls that the breaker would have rejected if it did not [only
    /// observe](super::CircuitBreaker::observe_only).
    pub would_reject_total: u64,
    /// Calls that succeeded since the breaker was made.
    pub successes_total: u64,
    /// Calls that failed since the breaker was made.
    pub failures_total: u64,
    /// Calls that succeeded or failed, and were slow, since the breaker was made.
    pub slow_calls_total: u64,
    /// How often the breaker has opened by itself, after failed probes too.
    pub trips_total: u64,
}
