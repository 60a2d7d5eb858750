//! What a cache's handles, layers and running calls share.

use super::{
    counters::CacheCounters,
    early,
    failure_memory::FailureMemory,
    freshness::{Entry, Freshness, FreshnessState, Hit},
    key::EntryKey,
    lease_guard::LeaseGuard,
    loaded::Verdict,
    single_flight::SingleFlight,
    status::{CacheStatus, Cached, Served},
    store::{AcquireOptions, Acquired, Fill, Store, StoreError},
    store_client::StoreClient,
};
use crate::{
    clock::Time,
    error::{Kind, Rejected},
    rng::Dice,
};
use std::{fmt, sync::Arc, time::Duration};

/// The longest time that an answer may be fresh or stale for. More would be for ever to any
/// application, and might overflow a clock.
pub(super) const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// What a cache's handles, layers and running calls share: its settings, its store and its state.
pub(super) struct Core<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    pub(super) name: &'static str,
    pub(super) freshness: Freshness,
    pub(super) lease: Duration,
    pub(super) jitter: f64,
    pub(super) beta: f64,
    pub(super) store_client: StoreClient<St>,
    pub(super) single_flight: Arc<SingleFlight<Verdict<V>, LeaseGuard<V, St>>>,
    pub(super) failure_memory: FailureMemory,
    pub(super) counters: CacheCounters,
    pub(super) dice: Dice,
}

impl<V, St> Core<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    pub(super) async fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<V, St::Lease>, ()> {
        self.count_error(self.store_client.acquire(key, ask).await)
    }

    /// Offers an answer to the store, and returns whether it was stored. An error says that the
    /// lease may still stand.
    pub(super) async fn fill(
        &self,
        key: &EntryKey,
        lease: &St::Lease,
        fill: Fill<V>,
    ) -> Result<bool, ()> {
        let stored = self.count_error(self.store_client.fill(key, lease, fill).await);
        match stored {
            Ok(true) => self.counters.add(|c| &c.stored),
            Ok(false) | Err(()) => self.counters.add(|c| &c.not_stored),
        }
        stored
    }

    pub(super) async fn release(&self, key: &EntryKey, lease: St::Lease) {
        let _ = self.count_error(self.store_client.release(key, lease).await);
    }

    pub(super) async fn look(&self, key: &EntryKey) -> Result<Option<Entry<V>>, ()> {
        self.count_error(self.store_client.look(key).await)
    }

    /// Returns for how long a call may still wait that has waited for the loads of others `since`
    /// then: for a lease in all, whoever holds one.
    pub(super) fn patience(&self, since: Time, now: Time) -> Duration {
        self.lease.saturating_sub(now.since(since))
    }

    /// Counts a store's error, which is all that it is to a reader: the cache goes on without it.
    ///
    /// That the caller has no time to ask is not the store's error.
    fn count_error<T>(&self, answer: Result<T, StoreError>) -> Result<T, ()> {
        answer.map_err(|error| {
            let not_asked = matches!(error, StoreError::Rejected(rejected)
                if rejected.kind() == Kind::DeadlineExceeded && !rejected.reached_service());
            if !not_asked {
                self.counters.add(|c| &c.store_failures);
            }
        })
    }

    /// Returns what this entry answers a call with before, or instead of, loading: an answer that
    /// is fresh or may be served while it is revalidated, or one for errors while the source fails.
    pub(super) fn stale_while_loading(
        &self,
        key: &EntryKey,
        entry: Entry<V>,
        now: Time,
    ) -> Option<Cached<V>> {
        match entry.state_at(now) {
            FreshnessState::Fresh => Some(self.cached(entry, Served::Fresh)),
            FreshnessState::Revalidate => Some(self.cached(entry, Served::Revalidating)),
            FreshnessState::IfError
                if self.failure_memory.backing_off(key, now)
                    || self.failure_memory.source_down(now) =>
            {
                Some(self.cached(entry, Served::IfError))
            }
            FreshnessState::IfError | FreshnessState::Expired => None,
        }
    }

    /// Returns what this entry answers a call with whose load failed.
    pub(super) fn stale_on_error(&self, entry: Entry<V>) -> Option<Cached<V>> {
        let served = match entry.state_at(Time::now()) {
            FreshnessState::Expired => return None,
            FreshnessState::Fresh => Served::Fresh,
            FreshnessState::Revalidate | FreshnessState::IfError => Served::IfError,
        };
        Some(self.cached(entry, served))
    }

    /// Whether the call that finds this fresh answer is the one to refresh it.
    #[inline]
    pub(super) fn refresh_is_due(&self, hit: &Hit<V>, now: Time) -> bool {
        let left = hit.stale_at.0.saturating_sub(now.0);
        // Most hits are in the first half of an answer's time, and need not know more.
        left <= now.0.saturating_sub(hit.born.0)
            && early::due(left, hit.cost, self.beta, || self.dice.unit())
    }

    #[inline]
    pub(super) fn hit(&self, hit: Hit<V>, now: Time) -> Cached<V> {
        let fresh = hit.stale_at.since(hit.born);
        let status = self.status(Served::Fresh, now.since(hit.born), fresh);
        let value = hit.value;
        Cached { value, status }
    }

    #[inline]
    pub(super) fn cached(&self, entry: Entry<V>, served: Served) -> Cached<V> {
        let age = entry.age_at(Time::now());
        let status = self.status(served, age, entry.freshness.fresh);
        let value = entry.value;
        Cached { value, status }
    }

    #[inline]
    pub(super) fn status(&self, served: Served, age: Duration, fresh: Duration) -> CacheStatus {
        CacheStatus {
            cache: self.name,
            served,
            age,
            fresh,
            collapsed: false,
        }
    }

    #[inline]
    pub(super) fn count(&self, served: Served) {
        match served {
            Served::Fresh => self.counters.add(|c| &c.fresh),
            Served::Revalidating => self.counters.add(|c| &c.revalidating),
            Served::IfError => self.counters.add(|c| &c.if_error),
            // Loads are counted where they begin.
            Served::Loaded { .. } => {}
        }
    }

    /// Makes the fresh time shorter by a random part, and never longer, so that `fresh` stays a
    /// promise.
    pub(super) fn jittered(&self, freshness: Freshness) -> Freshness {
        let Freshness {
            fresh,
            stale_while_revalidate,
            stale_if_error,
        } = freshness;
        let fresh = fresh.min(LONGEST);
        Freshness {
            fresh: fresh.mul_f64(1.0 - self.jitter * self.dice.unit()),
            stale_while_revalidate: stale_while_revalidate.min(LONGEST),
            stale_if_error: stale_if_error.min(LONGEST),
        }
    }

    /// Returns the rejection for a call that shared a load which failed.
    pub(super) fn load_failed(&self, rejected: Option<Rejected>) -> Rejected {
        rejected.unwrap_or_else(|| Rejected::new(Kind::LoadFailed, self.name))
    }
}

impl<V, St> fmt::Debug for Core<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.name)
            .field("freshness", &self.freshness)
            .field("loads", &self.single_flight)
            .finish_non_exhaustive()
    }
}
