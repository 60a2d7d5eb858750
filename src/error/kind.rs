//! Why a call was rejected.

use std::fmt;

/// Writes the enum, and all that has to know every kind, from one list: a kind that is added here
/// cannot be forgotten elsewhere.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $text:literal,)+) => {
        /// The reason for which a call was rejected.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// Every kind, at the index that is its number.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns this reason in words, such as `circuit open`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)+
                }
            }
        }
    };
}

kinds! {
    /// The circuit breaker is open, or its probes are all in flight.
    CircuitOpen: "circuit open",
    /// The rate limiter's quota is used up.
    RateLimited: "rate limited",
    /// The service, or the queue in front of it, is full.
    Overloaded: "overloaded",
    /// The service has been rejecting calls lately, so this one was not sent.
    Throttled: "throttled",
    /// An attempt took longer than its timeout. The service may have acted on it.
    TimedOut: "timed out",
    /// The caller's deadline passed, or was too near for the call to be worth starting.
    DeadlineExceeded: "deadline exceeded",
    /// The service was not ready for a call at this moment.
    NotReady: "not ready",
    /// The cache load that this call was sharing failed, and its error cannot be cloned for others.
    LoadFailed: "the shared load failed",
}

impl Kind {
    /// Returns whether the service was asked, and failed; the other kinds say that it was not, or
    /// that its caller could not wait.
    #[inline]
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::TimedOut | Self::LoadFailed => true,
            Self::CircuitOpen
            | Self::RateLimited
            | Self::Overloaded
            | Self::Throttled
            | Self::DeadlineExceeded
            | Self::NotReady => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
