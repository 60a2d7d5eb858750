//! What can be seen of a breaker.

use std::time::Duration;

/// What the next call would find.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass, to find out.
    HalfOpen,
}

/// Who decides.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// The results of the calls.
    Automatic,
    /// The results of the calls, but nothing is rejected.
    ObserveOnly,
    /// Open until it is told otherwise.
    ForcedOpen,
    /// Closed until it is told otherwise.
    ForcedClosed,
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[cfg_attr(feature = "registry", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reason {
    /// It has not changed yet.
    Created,
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too many calls in a row failed.
    ConsecutiveFailures,
    /// Too large a share of the calls was slow, or is taking too long already.
    SlowCallRate,
    /// The open time is over.
    WaitedOut,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Too many probes failed.
    ProbesFailed,
    /// It was forced.
    Forced,
    /// It was reset.
    Reset,
}

/// A change of state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state since.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// Counts up with every change. A receiver sees the latest change only; a gap here tells how
    /// much it missed (a reset of a closed breaker counts too, though it changes no state).
    pub epoch: u64,
}

/// A breaker at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name.
    pub name: &'static str,
    /// What the next call would find.
    pub state: State,
    /// Who decides.
    pub mode: Mode,
    /// Calls that ended in the window.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow, whether or not they failed.
    pub slow: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// Running calls that are slow already. Counted if there is a slow-call rate.
    pub in_flight_slow: u64,
    /// The share of calls that a ramp lets in, 1 when none is under way.
    pub admitted_share: f64,
    /// When a call may be let in again, if calls are being rejected and that is known.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub retry_after: Option<Duration>,
    /// Calls rejected since the breaker was made.
    pub rejected: u64,
    /// Calls that an observing breaker let in and would have rejected.
    pub would_reject: u64,
    /// Calls that succeeded since the breaker was made.
    pub successes_total: u64,
    /// Calls that failed since the breaker was made.
    pub failures_total: u64,
    /// Calls that were slow since the breaker was made.
    pub slow_total: u64,
    /// How often it has opened by itself.
    pub trips: u64,
}
