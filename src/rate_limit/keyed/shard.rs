//! A part of the keys, and the search for idle ones among them.

use super::{
    counting::Counting,
    slot_table::{Slot, SlotTable},
};
use crate::key_table::ClockHand;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// In the order in which it is used: what every call touches makes a cache line with the lock.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shard<D> {
    table: SlotTable<D>,
    /// The latest time seen: a key that was forgotten as idle stays so if the clock goes backwards.
    latest: u64,
    /// Admitted since the beginning, less what was given back.
    pub(super) admitted_total: u64,
    cold: Box<ColdPart<D>>,
}

/// What calls for keys that are known do not touch.
#[derive(Debug, Default)]
struct ColdPart<D> {
    /// Where the search for idle keys goes on.
    hand: ClockHand,
    /// Shared by keys that find no slot of their own.
    overflow: (u64, D),
}

impl<D> ColdPart<D> {
    fn overflow(&mut self) -> Slot<'_, D> {
        let (word, detail) = &mut self.overflow;
        Slot { word, detail }
    }
}

/// Slots looked at for each new key: enough that the table stays near the number of live keys, few
/// enough that nobody waits for it.
const SEARCH: usize = 8;
/// Slots looked at when there may be no more keys.
const SEARCH_WHEN_FULL: usize = 32;

impl<D: Default> Default for Shard<D> {
    fn default() -> Self {
        Self {
            table: SlotTable::default(),
            latest: 0,
            admitted_total: 0,
            cold: Box::default(),
        }
    }
}

impl<D: Copy + Default> Shard<D> {
    pub(super) fn keys(&self) -> usize {
        self.table.keys()
    }

    #[inline]
    pub(super) fn take<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        spare: &SpareKeys,
        hash: u64,
        cost: u32,
        now: u64,
    ) -> Result<u64, Option<u64>> {
        let now = self.latest.max(now);
        self.latest = now;
        let slot = match self.table.find(hash) {
            None => self.insert(counting, spare, hash),
            found => found,
        };
        let taken = counting.take(self.slot(slot), cost, now);
        if taken.is_ok() {
            self.admitted_total += u64::from(cost);
        }
        taken
    }

    pub(super) fn give_back<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        hash: u64,
        at: u64,
        cost: u32,
    ) {
        self.admitted_total -= u64::from(cost).min(self.admitted_total);
        // A key that was evicted since had nothing left to give back to, and then neither does the
        // overflow hold anything of that time that still counts.
        counting.give_back(self.look(hash), at, cost);
    }

    /// Returns a key's slot, or what it would start with.
    pub(super) fn look(&mut self, hash: u64) -> Slot<'_, D> {
        self.slot(self.table.find(hash))
    }

    #[inline]
    fn slot(&mut self, i: Option<usize>) -> Slot<'_, D> {
        let own = i.and_then(|i| self.table.get(i));
        own.unwrap_or_else(|| self.cold.overflow())
    }

    /// Finds a slot for a new key, if it may have one.
    #[cold]
    fn insert<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        spare: &SpareKeys,
        hash: u64,
    ) -> Option<usize> {
        let mut free = self.evict(counting, SEARCH);
        if free == 0 && spare.take() {
            free = 1;
        }
        if free == 0 {
            free = self.evict(counting, SEARCH_WHEN_FULL);
        }
        spare.give(free.checked_sub(1)?);
        // The key may have been among those that shared the overflow: it starts with what was
        // counted there. A little too strict for a while is right; twice the quota would not be.
        let (word, detail) = match counting.is_idle(self.cold.overflow(), self.latest) {
            true => (0, D::default()),
            false => self.cold.overflow,
        };
        Some(self.table.insert(hash, word, detail))
    }

    /// Moves the hand on over so many slots and forgets the idle keys that it finds. Returns how
    /// many.
    fn evict<C: Counting<Detail = D>>(&mut self, counting: &C, search: usize) -> usize {
        let (slots, before) = (self.table.slots(), self.table.keys());
        for _ in 0..search.min(slots) {
            let (i, latest) = (self.cold.hand.at(), self.latest);
            let slot = self.table.get(i);
            match slot.map(|slot| counting.is_idle(slot, latest)) {
                // Another one may have its slot now.
                Some(true) => self.table.remove(i),
                _ => self.cold.hand.advance(slots),
            }
        }
        before - self.table.keys()
    }
}

/// How many more keys may be kept, in all shards together.
#[derive(Debug)]
pub(super) struct SpareKeys(AtomicUsize);

impl SpareKeys {
    pub(super) fn new(keys: usize) -> Self {
        Self(AtomicUsize::new(keys))
    }

    fn take(&self) -> bool {
        self.0
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn give(&self, keys: usize) {
        if keys > 0 {
            self.0.fetch_add(keys, Relaxed);
        }
    }
}
