//! What an answer is worth at which age.

use crate::clock::{Time, nanos};
use std::time::Duration;

/// For how long an answer is good for what.
///
/// All three count from the moment at which its load was allowed to begin, and not from its end:
/// so nothing is fresh for longer than `fresh` after it was outdated, however long the load took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// It is the answer.
    pub fresh: Duration,
    /// After that: it is the answer, while one call in the background looks for a new one
    /// (RFC 5861 `stale-while-revalidate`).
    pub stale_while_revalidate: Duration,
    /// After `fresh`: it is the answer if there is no other, because the load failed
    /// (RFC 5861 `stale-if-error`).
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
    /// It is better than an error.
    IfError,
    /// Nothing.
    Expired,
}

impl Freshness {
    /// Fresh for so long, and then gone.
    pub const fn fresh(fresh: Duration) -> Self {
        Self {
            fresh,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }

    /// The age from which it is good for nothing.
    pub fn end(&self) -> Duration {
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        self.fresh.saturating_add(stale)
    }

    /// What an answer of this age is good for.
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

/// An answer that was kept.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    /// The answer.
    pub value: V,
    /// How old it was when it was read from where it is kept.
    pub age: Duration,
    /// When that was, at the latest: when it was asked for.
    pub read: Time,
    /// What it is good for.
    pub freshness: Freshness,
    /// How long its load took.
    pub cost: Duration,
    /// It is known to be outdated: it was invalidated, and kept to be better than an error.
    pub outdated: bool,
}

impl<V> Entry<V> {
    /// How old it is.
    #[inline]
    pub fn age_at(&self, now: Time) -> Duration {
        self.age.saturating_add(now.since(self.read))
    }

    /// What it is good for.
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

/// An answer that is at hand and fresh.
#[derive(Clone, Debug)]
pub struct Hit<V> {
    /// The answer.
    pub value: V,
    /// When it was as old as nothing: since then it has aged.
    pub born: Time,
    /// When it goes stale.
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
