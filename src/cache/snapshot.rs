//! What a cache tells about itself.

/// What a cache has done so far, and whether its store answers.
///
/// [`Cache::snapshot`](super::Cache::snapshot) takes it. With the `registry` feature it can be
/// serialised, and its numbers become the metrics in the [module's table](super#metrics). What ends
/// in `_total` counts since the cache was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The cache's name.
    pub name: &'static str,
    /// Calls answered with a fresh entry, without a load.
    pub fresh_total: u64,
    /// Calls answered with a stale entry while a new one was looked for.
    pub revalidating_total: u64,
    /// Calls answered with a stale entry because the load failed.
    pub if_error_total: u64,
    /// Calls that shared another call's load. What they were answered with from the store is
    /// counted there as well.
    pub collapsed_total: u64,
    /// Calls whose requests are not for a cache.
    pub bypassed_total: u64,
    /// Loads, those in the background included.
    pub loads_total: u64,
    /// Loads that failed.
    pub load_failures_total: u64,
    /// Loads in the background: of what was stale, or soon would be.
    pub refreshes_total: u64,
    /// Answers that were stored.
    pub stored_total: u64,
    /// Answers that were not stored: the store refused them, because they had been invalidated
    /// meanwhile, or could not take them, or the call had loaded on its own.
    pub not_stored_total: u64,
    /// Questions to the store that it did not answer, or not in time, or that were not asked
    /// because its breaker was open.
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
