//! What a cache tells about itself.

/// What a cache has done so far, and whether its store answers.
///
/// [`Cache::snapshot`](super::Cache::snapshot) takes it. With the `registry` feature it can be
/// serialised, and the metrics in the [module's table](super#metrics) are made from it. What ends
/// in `_total` counts since the cache was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The cache's name.
    pub name: &'static str,
    /// Calls answered with a fresh entry, without a load.
    pub fresh_total: u64,
    /// Calls answered with a stale entry while a new one was loaded.
    pub revalidating_total: u64,
    /// Calls answered with a stale entry because the load failed.
    pub if_error_total: u64,
    /// Calls that shared another call's load. If they were then answered with a stored entry, they
    /// are counted there as well.
    pub collapsed_total: u64,
    /// Calls that bypassed the cache, because their requests are not for one.
    pub bypassed_total: u64,
    /// Loads, including those in the background.
    pub loads_total: u64,
    /// Loads that failed.
    pub load_failures_total: u64,
    /// Loads in the background, of entries that were stale or soon would be.
    pub refreshes_total: u64,
    /// Answers that were stored.
    pub stored_total: u64,
    /// Answers that were not stored, because they had been invalidated in the meantime, because the
    /// store could not take them, or because the call had loaded on its own.
    pub not_stored_total: u64,
    /// Requests to the store that it did not answer, or not in time, or that were not sent because
    /// its breaker was open.
    pub store_failures_total: u64,
    /// Whether the store's breaker is closed, which it is while the store answers.
    pub store_up: bool,
    /// Invalidations of keys and tags.
    pub invalidations_total: u64,
    /// Invalidations that did not reach the store.
    pub invalidations_pending_total: u64,
    /// Loads under way that others may share.
    pub in_flight: u64,
}
