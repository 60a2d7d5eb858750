//! What a limiter tells about itself.

use std::time::Duration;

/// What is left of a quota at one moment.
///
/// [`RateLimiter::status`](super::RateLimiter::status) returns it; `http::RateLimitHeadersLayer`
/// tells it to clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The cost that one window admits.
    pub quota: u32,
    /// The length of the window.
    pub window: Duration,
    /// The cost that would be admitted now. Under [`Gcra`](super::Algorithm::Gcra) this is what is
    /// left of the burst.
    pub remaining: u32,
    /// The cost that was [charged](super::RateLimiter::charge) beyond the quota and has not been
    /// made up for. As long as there is any, no call is admitted.
    pub debt: u32,
    /// How long until `remaining` grows if nothing is admitted in the meantime, because the oldest
    /// admission leaves the window, or the next unit falls due. Zero if nothing has been taken.
    ///
    /// This is the `t` of the IETF `RateLimit` field, before it is rounded up to whole seconds.
    pub reset: Duration,
}

/// What a limiter has done so far, and what it would do now.
///
/// [`RateLimiter::snapshot`](super::RateLimiter::snapshot) takes it. With the `registry` feature it
/// can be serialised, and the metrics in the [module's table](super#metrics) are made from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The limiter's name.
    pub name: &'static str,
    /// The cost that one window admits.
    pub quota: u32,
    /// The length of the window.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub window: Duration,
    /// The cost admitted since the limiter was made, without what was given back by calls that
    /// never started.
    pub admitted_total: u64,
    /// Calls refused since the limiter was made.
    pub rejected_total: u64,
    /// Calls of cost 0 since the limiter was made, which were admitted without being counted.
    pub exempt_total: u64,
    /// Calls that are waiting for their turn.
    pub waiting: usize,
    /// The cost that a global limiter would admit now; `None` for a keyed one.
    pub remaining: Option<u32>,
    /// How many keys are kept, including idle ones that have not been evicted yet; `None` for a
    /// global limiter.
    pub keys: Option<usize>,
    /// Calls for new keys that came when [`max_keys`](super::RateLimiterBuilder::max_keys) were
    /// kept and none of them was idle; `None` for a global limiter. What became of them is said by
    /// [`key_overflow`](super::RateLimiterBuilder::key_overflow).
    pub overflowed_total: Option<u64>,
}

/// A [`QuotaStatus`] in the units in which it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemainingQuota {
    pub(super) quota: u64,
    pub(super) remaining: u64,
    pub(super) debt: u64,
    /// In nanoseconds.
    pub(super) reset: u64,
}

impl RemainingQuota {
    pub(super) fn status(self, window: Duration) -> QuotaStatus {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        QuotaStatus {
            quota: narrow(self.quota),
            window,
            remaining: narrow(self.remaining),
            debt: narrow(self.debt),
            reset: Duration::from_nanos(self.reset),
        }
    }
}
