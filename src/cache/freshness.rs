//! What an answer is worth at which age.

use crate::clock::{Time, nanos};
use std::time::Duration;

/// For how long an answer is good for what.
///
/// All three times count from the moment at which its load was allowed to begin, and not from its
/// end: so nothing is fresh for longer than `fresh` after it was outdated, however long the load
/// took.
#[doc(alias = "ttl")]
#[doc(alias = "max_age")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// For so long it is the answer.
    #[doc(alias = "ttl")]
    pub fresh: Duration,
    /// For so long after `fresh` it is the answer while one call in the background looks for a new
    /// one (RFC 5861 `stale-while-revalidate`).
    #[doc(alias = "swr")]
    pub stale_while_revalidate: Duration,
    /// For so long after `fresh` it is the answer if there is no other, because the load failed
    /// (RFC 5861 `stale-if-error`).
    #[doc(alias = "sie")]
    pub stale_if_error: Duration,
}

/// What an answer of some age is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FreshnessState {
    /// It is the answer.
    Fresh,
    /// It is the answer, but a new one is to be looked for.
    Revalidate,
    /// It is no answer, but better than an error.
    IfError,
    /// It is good for nothing.
    Expired,
}

impl Freshness {
    /// Makes an answer fresh for so long, and good for nothing after that.
    #[doc(alias = "ttl")]
    pub const fn fresh(fresh: Duration) -> Self {
        Self {
            fresh,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }

    /// Returns the age from which an answer is good for nothing.
    pub fn end(&self) -> Duration {
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        self.fresh.saturating_add(stale)
    }

    /// Returns what an answer of this age is good for.
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
    /// How old it was when it was read from where it is kept.
    pub age: Duration,
    /// When it was read, at the latest: when the store was asked for it.
    pub read: Time,
    /// For how long it is good for what.
    pub freshness: Freshness,
    /// How long its load took.
    pub cost: Duration,
    /// Whether it is known to be outdated: it was invalidated, and kept to be better than an error.
    pub outdated: bool,
}

impl<V> Entry<V> {
    /// Returns how old the entry is at this time.
    #[inline]
    pub fn age_at(&self, now: Time) -> Duration {
        self.age.saturating_add(now.since(self.read))
    }

    /// Returns what the entry is good for at this time: an outdated one is never more than better
    /// than an error.
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

/// An answer that is at hand and fresh, found without waiting.
#[derive(Clone, Debug)]
pub struct Hit<V> {
    /// The answer.
    pub value: V,
    /// When its age was zero: when its load was allowed to begin.
    pub born: Time,
    /// When it stops being fresh.
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
