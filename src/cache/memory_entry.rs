//! An answer as it is kept in memory.

use super::{
    freshness::{Entry, Freshness, Hit},
    key::EntryKey,
    leases::MemoryLease,
    store::Fill,
    tags::{Standing, Tagged},
};
use crate::clock::{Now, Time, nanos};
use std::{sync::Arc, time::Duration};

/// An answer, when it was born and for how long it is good, in nanoseconds; and what its tag was
/// when its lease was granted.
#[derive(Clone)]
pub(super) struct MemoryEntry<V> {
    pub(super) key: EntryKey,
    value: V,
    born: Time,
    stale_at: Time,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    cost: Duration,
    outdated: bool,
    tag: Option<Arc<Tagged>>,
    pub(super) weight: u64,
}

impl<V: Clone> MemoryEntry<V> {
    pub(super) fn new(key: EntryKey, weight: u64, fill: Fill<V>, lease: &MemoryLease) -> Self {
        Self {
            key,
            weight,
            value: fill.value,
            born: lease.granted,
            stale_at: lease.granted.after(fill.freshness.fresh),
            stale_while_revalidate: nanos(fill.freshness.stale_while_revalidate),
            stale_if_error: nanos(fill.freshness.stale_if_error),
            cost: fill.cost,
            outdated: false,
            tag: lease.tag.clone(),
        }
    }

    /// Returns a copy that is known to be outdated.
    pub(super) fn outdated(&self) -> Self {
        Self {
            outdated: true,
            ..self.clone()
        }
    }

    #[inline]
    fn standing(&self) -> Standing {
        match &self.tag {
            Some(tag) => tag.standing(),
            None => Standing::Current,
        }
    }

    #[inline]
    pub(super) fn hit(&self, now: &Now) -> Option<Hit<V>> {
        let fresh = now.get() < self.stale_at && !self.outdated;
        // The clone comes last: what it writes may be on another processor until a moment ago, and
        // is wanted there again in a moment, so it is not to be held for longer than need be.
        (fresh && self.standing() == Standing::Current).then(|| Hit {
            born: self.born,
            stale_at: self.stale_at,
            cost: self.cost,
            value: self.value.clone(),
        })
    }

    /// Returns the entry as it is to be looked at now, or `None` if an invalidation of its tag has
    /// removed it.
    pub(super) fn entry(&self) -> Option<Entry<V>> {
        let outdated = match self.standing() {
            Standing::Current => self.outdated,
            Standing::Outdated => true,
            Standing::Gone => return None,
        };
        Some(Entry {
            value: self.value.clone(),
            age: Duration::ZERO,
            read: self.born,
            freshness: Freshness {
                fresh: self.stale_at.since(self.born),
                stale_while_revalidate: Duration::from_nanos(self.stale_while_revalidate),
                stale_if_error: Duration::from_nanos(self.stale_if_error),
            },
            cost: self.cost,
            outdated,
        })
    }
}
