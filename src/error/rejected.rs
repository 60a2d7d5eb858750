use crate::clock::nanos;
use std::{fmt, time::Duration};

/// A policy refused a call, or gave up on it: which policy, why, and when to come back.
///
/// 24 bytes, no allocation, `Copy`. The time is kept in milliseconds, rounded up, so that whoever
/// waits for it never comes back early.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Rejected {
    policy: &'static str,
    /// Kind in the upper 8 bits, milliseconds in the lower 56. Word-sized on purpose: a smaller,
    /// misaligned value costs more to pass around than the decision that made it.
    word: u64,
}

/// Why a call was rejected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// The circuit breaker is open, or its probes are all in flight.
    CircuitOpen = 0,
    /// The quota of the current window is used up.
    RateLimited = 1,
    /// The service, or the queue in front of it, is full.
    Overloaded = 2,
    /// The service has been rejecting calls lately, so this one was not sent.
    Throttled = 3,
    /// An attempt took longer than its timeout. The service may have acted on it.
    TimedOut = 4,
    /// The caller's deadline passed, or was too near for the call to be worth starting.
    DeadlineExceeded = 5,
    /// The service was not ready for a call at this moment.
    NotReady = 6,
    /// The load that this call was sharing failed, and what it failed with cannot be shared.
    LoadFailed = 7,
}

const UNKNOWN: u64 = MILLIS;
const MILLIS: u64 = (1 << 56) - 1;
const REACHED: u64 = 1 << 63;
const KINDS: [Kind; 8] = [
    Kind::CircuitOpen,
    Kind::RateLimited,
    Kind::Overloaded,
    Kind::Throttled,
    Kind::TimedOut,
    Kind::DeadlineExceeded,
    Kind::NotReady,
    Kind::LoadFailed,
];

impl Rejected {
    /// A rejection of this kind by the policy of this name, with no idea when to come back.
    #[inline]
    pub const fn new(kind: Kind, policy: &'static str) -> Self {
        let reached = if matches!(kind, Kind::TimedOut | Kind::LoadFailed) {
            REACHED
        } else {
            0
        };
        Self {
            policy,
            word: reached | (kind as u64) << 56 | UNKNOWN,
        }
    }

    /// The same, with the time after which another call may be let in.
    #[inline]
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        let millis = nanos(after).div_ceil(1_000_000).min(UNKNOWN - 1);
        Self {
            word: self.word & !MILLIS | millis,
            ..self
        }
    }

    /// The same, for a call that may have reached the service before it was given up.
    #[inline]
    #[must_use]
    pub const fn having_reached_service(self) -> Self {
        Self {
            policy: self.policy,
            word: self.word | REACHED,
        }
    }

    /// Why.
    #[inline]
    pub fn kind(&self) -> Kind {
        // The index is always one of a `Kind` that was put in; `NotReady` is never a guess.
        let index = (self.word & !REACHED) >> 56;
        KINDS.get(index as usize).copied().unwrap_or(Kind::NotReady)
    }

    /// The name of the policy.
    #[inline]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// When a call may be let in again, if that is known.
    #[inline]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.word & MILLIS {
            UNKNOWN => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Whether the service may have seen the call, and may have acted on it.
    #[inline]
    pub const fn reached_service(&self) -> bool {
        self.word & REACHED != 0
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("kind", &self.kind())
            .field("policy", &self.policy)
            .field("retry_after", &self.retry_after())
            .field("reached_service", &self.reached_service())
            .finish()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitOpen => "circuit open",
            Self::RateLimited => "rate limited",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed out",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::NotReady => "not ready",
            Self::LoadFailed => "the shared load failed",
        })
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.policy, self.kind())?;
        match self.retry_after() {
            Some(after) => write!(f, ", retry after {after:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_packing_and_the_size_is_three_words() {
        for kind in KINDS {
            for after in [Duration::ZERO, Duration::from_secs(7), Duration::MAX] {
                let rejected = Rejected::new(kind, "p").with_retry_after(after);
                assert_eq!(rejected.kind(), kind);
                assert!(rejected.retry_after().is_some_and(|t| t <= after));
                let reached = matches!(kind, Kind::TimedOut | Kind::LoadFailed);
                assert_eq!(rejected.reached_service(), reached);
            }
            assert_eq!(Rejected::new(kind, "p").retry_after(), None);
        }
        assert_eq!(size_of::<Rejected>(), 24);
    }

    #[test]
    fn the_wait_is_rounded_up_never_down() {
        let rejected = Rejected::new(Kind::RateLimited, "api");
        let rejected = rejected.with_retry_after(Duration::from_nanos(1_000_001));
        assert_eq!(rejected.retry_after(), Some(Duration::from_millis(2)));
        assert_eq!(rejected.to_string(), "api: rate limited, retry after 2ms");
    }
}
