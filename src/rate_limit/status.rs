use std::time::Duration;

/// What is left of a quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The cost that one window admits.
    pub quota: u32,
    /// The window.
    pub window: Duration,
    /// The cost that would be admitted now. Under [`Gcra`](super::Algorithm::Gcra) this is what is
    /// left of the burst.
    pub remaining: u32,
    /// How long until `remaining` grows, if nothing is admitted meanwhile: when the oldest admission
    /// leaves the window, or the next one falls due. Zero if nothing has been taken.
    ///
    /// This is the `t` of the IETF `RateLimit` field, before it is rounded up to whole seconds.
    pub reset: Duration,
}

/// What a limiter has done so far.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The limiter's name.
    pub name: &'static str,
    /// The cost that one window admits.
    pub quota: u32,
    /// The window.
    #[cfg_attr(
        feature = "registry",
        serde(serialize_with = "crate::registry::seconds")
    )]
    pub window: Duration,
    /// The cost admitted so far, without what was given back by calls that never started.
    pub admitted_total: u64,
    /// Calls refused so far.
    pub rejected_total: u64,
    /// Calls waiting for their turn.
    pub waiting: usize,
    /// What a global limiter would admit now; `None` for a keyed one.
    pub remaining: Option<u32>,
    /// The keys that are kept, idle ones that have not been evicted yet included; `None` for a
    /// global limiter.
    pub keys: Option<usize>,
}

/// What a core says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) quota: u64,
    pub(super) left: u64,
    /// In nanoseconds.
    pub(super) reset: u64,
}

impl Level {
    pub(super) fn status(self, window: Duration) -> QuotaStatus {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        QuotaStatus {
            quota: narrow(self.quota),
            window,
            remaining: narrow(self.left),
            reset: Duration::from_nanos(self.reset),
        }
    }
}
