//! What an answer is worth at which age.

use crate::clock::{Time, nanos};
use std::time::Duration;

/// The times for which an answer is fresh, and for which it may be used when stale.
///
/// The age of an answer counts from the moment at which its load was allowed to begin, and not from
/// the load's end. So it is fresh for no longer than `fresh` after it was outdated, however long
/// the load took. Both stale times begin when the answer stops being fresh.
#[doc(alias = "ttl")]
#[doc(alias = "max_age")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// How long the answer is returned at once.
    #[doc(alias = "ttl")]
    pub fresh: Duration,
    /// How long after `fresh` the answer is still returned at once, while a new one is loaded in
    /// the background (`stale-while-revalidate` of RFC 5861).
    #[doc(alias = "swr")]
    pub stale_while_revalidate: Duration,
    /// How long after `fresh` the answer is returned if the load of a new one fails
    /// (`stale-if-error` of RFC 5861).
    #[doc(alias = "sie")]
    pub stale_if_error: Duration,
}

/// What an answer may be used for at some age.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FreshnessState {
    /// It is returned.
    Fresh,
    /// It is returned, and a new one is loaded in the background.
    Revalidate,
    /// It is returned only if the load of a new one fails.
    IfError,
    /// It is not returned any more.
    Expired,
}

impl Freshness {
    /// Returns the freshness of an answer that is fresh for this long, and never used when stale.
    #[doc(alias = "ttl")]
    pub const fn fresh(fresh: Duration) -> Self {
        Self {
            fresh,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }

    /// Returns the age at which an answer expires: from then on it is not used any more.
    pub fn end(&self) -> Duration {
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        self.fresh.saturating_add(stale)
    }

    /// Returns what an answer of this age may be used for.
    #[inline]
    pub fn at(&self, age: Duration) -> FreshnessState {
        if age < self.fresh {
            return FreshnessState::Fresh;
        }
        let stale = age - self.fresh;
        if stale < self.stale_while_revalidate {
            FreshnessState::Revalidate
        } else if stale < self.stale_if_error {
            FreshnessState::IfError
        } else {
            FreshnessState::Expired
        }
    }
}

/// An answer as a store keeps it.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    /// The answer.
    pub value: V,
    /// How old the answer was when it was read from the store.
    pub age: Duration,
    /// The moment at which it was read. If that is not known exactly, the moment at which the store
    /// was asked for it.
    pub read: Time,
    /// How long it is fresh, and how long it may be used when stale.
    pub freshness: Freshness,
    /// How long its load took.
    pub cost: Duration,
    /// Whether it was invalidated, and kept only for when a load fails.
    pub outdated: bool,
}

impl<V> Entry<V> {
    /// Returns how old the entry is at this time.
    #[inline]
    pub fn age_at(&self, now: Time) -> Duration {
        self.age.saturating_add(now.since(self.read))
    }

    /// Returns what the entry may be used for at this time. An outdated one is never more than
    /// [`FreshnessState::IfError`].
    #[inline]
    pub fn state_at(&self, now: Time) -> FreshnessState {
        match self.freshness.at(self.age_at(now)) {
            FreshnessState::Fresh | FreshnessState::Revalidate if self.outdated => {
                match self.freshness.stale_if_error {
                    Duration::ZERO => FreshnessState::Expired,
                    _ => FreshnessState::IfError,
                }
            }
            worth => worth,
        }
    }
}

/// A fresh answer that a store had at hand, without waiting.
#[derive(Clone, Debug)]
pub struct Hit<V> {
    /// The answer.
    pub value: V,
    /// The moment from which its age counts, at which its load was allowed to begin.
    pub born: Time,
    /// The moment at which it stops being fresh.
    pub stale_at: Time,
    /// How long its load took.
    pub cost: Duration,
}

impl<V> From<Entry<V>> for Hit<V> {
    fn from(entry: Entry<V>) -> Self {
        let left = entry.freshness.fresh.saturating_sub(entry.age);
        Self {
            value: entry.value,
            born: Time(entry.read.0.saturating_sub(nanos(entry.age))),
            stale_at: entry.read.after(left),
            cost: entry.cost,
        }
    }
}
