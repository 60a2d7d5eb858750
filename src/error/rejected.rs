//! The one rejection of all policies.

use super::Kind;
use crate::clock::nanos;
use std::{fmt, time::Duration};

/// A rejection: which policy refused a call or gave up on it, why, and when to come back.
///
/// It is 24 bytes, `Copy`, and never allocates. The time is kept in milliseconds, rounded up, so
/// that whoever waits for it never comes back early.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Rejected {
    policy: &'static str,
    /// Whether the service was reached in the highest bit, whether the limit was the caller's in
    /// the next, the kind's number in the six below, milliseconds in the lower 56. A word on
    /// purpose: see "Values on the hot path" in shared.rs.
    word: u64,
}

const REACHED: u64 = 1 << 63;
const CALLERS_LIMIT: u64 = 1 << 62;
const KIND_AT: u32 = 56;
const MILLIS: u64 = (1 << KIND_AT) - 1;
/// In place of milliseconds: nobody knows.
const UNKNOWN: u64 = MILLIS;

// The numbers of all kinds fit below the two highest bits.
const _: () = assert!(Kind::ALL.len() <= 1 << 6);

impl Rejected {
    /// Creates a rejection of this kind by the policy of this name, without a time to come back.
    ///
    /// It says that the call did not [reach the service](Self::reached_service), unless its kind is
    /// [`Kind::TimedOut`] or [`Kind::LoadFailed`].
    #[inline]
    pub const fn new(kind: Kind, policy: &'static str) -> Self {
        let reached = if kind.is_failure() { REACHED } else { 0 };
        Self {
            policy,
            word: reached | (kind as u64) << KIND_AT | UNKNOWN,
        }
    }

    /// Takes it apart, for [`from_parts`](Self::from_parts).
    #[inline(always)]
    pub(crate) const fn into_parts(self) -> (&'static str, u64) {
        (self.policy, self.word)
    }

    #[inline(always)]
    pub(crate) const fn from_parts(policy: &'static str, word: u64) -> Self {
        Self { policy, word }
    }

    /// Sets how long to wait before another call may be let in, rounded up to milliseconds.
    #[inline]
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        let millis = nanos(after).div_ceil(1_000_000).min(UNKNOWN - 1);
        Self {
            word: self.word & !MILLIS | millis,
            ..self
        }
    }

    /// Marks the call as one that may have reached the service before the policy gave up on it.
    #[inline]
    #[must_use]
    pub const fn having_reached_service(self) -> Self {
        Self {
            policy: self.policy,
            word: self.word | REACHED,
        }
    }

    /// Marks the call as one that has not reached the service, whatever its kind.
    #[cfg(feature = "timeout")]
    pub(crate) const fn without_reaching_service(self) -> Self {
        Self {
            policy: self.policy,
            word: self.word & !REACHED,
        }
    }

    /// Marks the call as one that its policy gave up on because of a limit that the caller had
    /// chosen, such as a deadline that came with a request.
    #[inline]
    #[must_use]
    pub const fn by_callers_limit(self) -> Self {
        Self {
            policy: self.policy,
            word: self.word | CALLERS_LIMIT,
        }
    }

    /// Returns why the call was rejected.
    #[inline]
    pub fn kind(&self) -> Kind {
        let number = ((self.word & !(REACHED | CALLERS_LIMIT)) >> KIND_AT) as usize;
        match Kind::ALL.get(number) {
            Some(kind) => *kind,
            None => {
                debug_assert!(false, "no kind has the number {number}");
                Kind::NotReady
            }
        }
    }

    /// Returns the name of the policy that rejected the call.
    #[inline]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// Returns how long to wait before another call may be let in, if that is known.
    #[doc(alias = "wait_time_from")]
    #[inline]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.word & MILLIS {
            UNKNOWN => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Returns whether the service may have seen the call, and may have acted on it.
    ///
    /// Of a call that was cut off this is what its polls have shown: if it did several things at
    /// once, as with `join!`, and one of them waited for a policy in every poll, it says `false`.
    #[inline]
    pub const fn reached_service(&self) -> bool {
        self.word & REACHED != 0
    }

    /// Returns whether the limit that ended the call was chosen by its caller. Then it says little
    /// about the service: the caller may have left it no time.
    #[inline]
    pub const fn is_callers_limit(&self) -> bool {
        self.word & CALLERS_LIMIT != 0
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("kind", &self.kind())
            .field("policy", &self.policy)
            .field("retry_after", &self.retry_after())
            .field("reached_service", &self.reached_service())
            .field("is_callers_limit", &self.is_callers_limit())
            .finish()
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
        for kind in Kind::ALL.iter().copied() {
            for after in [Duration::ZERO, Duration::from_secs(7), Duration::MAX] {
                let rejected = Rejected::new(kind, "p").with_retry_after(after);
                assert_eq!(rejected.kind(), kind);
                assert!(rejected.retry_after().is_some_and(|t| t <= after));
                let reached = matches!(kind, Kind::TimedOut | Kind::LoadFailed);
                assert_eq!(rejected.reached_service(), reached);
                assert_eq!(rejected.having_reached_service().kind(), kind);
                let by_caller = rejected.by_callers_limit();
                assert_eq!(
                    (by_caller.kind(), by_caller.reached_service()),
                    (kind, reached)
                );
                assert!(by_caller.is_callers_limit() && !rejected.is_callers_limit());
                assert_eq!(by_caller.retry_after(), rejected.retry_after());
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
