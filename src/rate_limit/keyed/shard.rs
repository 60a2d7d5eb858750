//! A part of the keys, and the search for idle ones among them.

use super::{
    counting::Counting,
    debts::Debts,
    slot_table::{Slot, SlotTable, home},
};
use crate::{
    key_table::ClockHand,
    rate_limit::{KeyOverflow, capacity_forecast::CapacityForecast, status::RemainingQuota},
};
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
    /// How many keys have a debt.
    in_debt: usize,
    cold: Box<ColdPart<D>>,
}

/// What calls for keys that are known do not touch.
#[derive(Debug, Default)]
struct ColdPart<D> {
    /// Where the search for idle keys goes on.
    hand: ClockHand,
    /// New keys that found neither room nor an idle key, since the beginning.
    overflowed_total: u64,
    debts: Debts,
    /// What a key that is not kept is looked at with: nothing.
    unknown: (u64, D),
}

/// Where a new key is counted.
enum NewKey {
    Counted(usize),
    Uncounted,
    Refused,
}

/// Slots looked at for each new key: enough that the table stays near the number of live keys, few
/// enough that nobody waits for it.
const SEARCH: usize = 8;
/// Slots looked at when there may be no more keys.
const SEARCH_WHEN_FULL: usize = 32;

/// In how many places keys are looked for that have used little.
const PLACES: u32 = 8;
/// A cache line of heads.
const SLOTS_PER_PLACE: usize = SEARCH_WHEN_FULL / PLACES as usize;

impl<D: Default> Default for Shard<D> {
    fn default() -> Self {
        Self {
            table: SlotTable::default(),
            latest: 0,
            admitted_total: 0,
            in_debt: 0,
            cold: Box::default(),
        }
    }
}

impl<D: Copy + Default> Shard<D> {
    pub(super) fn keys(&self) -> usize {
        self.table.keys()
    }

    pub(super) fn overflowed_total(&self) -> u64 {
        self.cold.overflowed_total
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
        let Some(slot) = self.table.find(hash) else {
            return self.take_new(counting, spare, hash, cost);
        };
        if self.in_debt > 0 {
            return self.take_beside_debts(counting, slot, hash, cost);
        }
        self.take_at(counting, slot, cost)
    }

    #[inline(always)]
    fn take_at<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        slot: usize,
        cost: u32,
    ) -> Result<u64, Option<u64>> {
        let Some(slot) = self.table.get(slot) else {
            debug_assert!(false, "a slot that was just found");
            return Err(None);
        };
        let taken = counting.take(slot, cost, self.latest);
        if taken.is_ok() {
            self.admitted_total += u64::from(cost);
        }
        taken
    }

    #[cold]
    #[inline(never)]
    fn take_new<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        spare: &SpareKeys,
        hash: u64,
        cost: u32,
    ) -> Result<u64, Option<u64>> {
        if !counting.fits(cost) {
            return Err(None);
        }
        match self.insert(counting, spare, hash) {
            NewKey::Counted(slot) => self.take_beside_debts(counting, slot, hash, cost),
            NewKey::Uncounted => {
                self.admitted_total += u64::from(cost);
                Ok(0)
            }
            // By then every key that is kept may be idle.
            NewKey::Refused => Err(Some(self.latest.saturating_add(spare.window))),
        }
    }

    #[cold]
    #[inline(never)]
    fn take_beside_debts<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        slot: usize,
        hash: u64,
        cost: u32,
    ) -> Result<u64, Option<u64>> {
        if self.settle(counting, slot, hash) > 0 {
            let forecast = self.forecast(counting, hash, self.latest);
            return Err(match forecast.fits(cost) {
                true => Some(forecast.at_least(0, cost)),
                false => None,
            });
        }
        self.take_at(counting, slot, cost)
    }

    /// Makes up for a debt as far as there has been room. Returns what is left of it.
    #[cold]
    fn settle<C: Counting<Detail = D>>(&mut self, counting: &C, i: usize, hash: u64) -> u64 {
        let Some(slot) = self.table.get(i) else {
            return 0;
        };
        let debts = &mut self.cold.debts;
        let left = debts.settle(counting, hash, slot, self.latest);
        self.in_debt = debts.len();
        left
    }

    /// Counts a cost that is known afterwards. Returns whether the key is counted at all.
    pub(super) fn charge<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        spare: &SpareKeys,
        hash: u64,
        cost: u32,
        now: u64,
    ) {
        self.latest = self.latest.max(now);
        let slot = match self.table.find(hash) {
            Some(found) => found,
            None => match self.insert(counting, spare, hash) {
                NewKey::Counted(slot) => slot,
                NewKey::Uncounted | NewKey::Refused => return,
            },
        };
        self.admitted_total += u64::from(cost);
        let (mut debt, now) = (u64::from(cost), self.latest);
        if self.settle(counting, slot, hash) == 0
            && let Some(slot) = self.table.get(slot)
        {
            debt = counting.charge(slot, debt, now);
        }
        self.cold.debts.add(hash, debt, now);
        self.in_debt = self.cold.debts.len();
    }

    /// Forgets a key.
    pub(super) fn reset(&mut self, spare: &SpareKeys, hash: u64) {
        if let Some(slot) = self.table.find(hash) {
            self.table.remove(slot);
            spare.give(1);
        }
        self.cold.debts.forget(hash);
        self.in_debt = self.cold.debts.len();
    }

    /// Takes back a part of what was charged or admitted in this window.
    pub(super) fn refund<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        hash: u64,
        cost: u32,
        now: u64,
    ) {
        self.latest = self.latest.max(now);
        self.admitted_total -= u64::from(cost).min(self.admitted_total);
        let Some(slot) = self.table.find(hash) else {
            return;
        };
        self.settle(counting, slot, hash);
        let cost = u64::from(cost);
        let cost = cost - self.cold.debts.forgive(hash, cost);
        self.in_debt = self.cold.debts.len();
        if let Some(slot) = self.table.get(slot) {
            counting.refund(slot, cost, self.latest);
        }
    }

    pub(super) fn forecast<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        hash: u64,
        now: u64,
    ) -> CapacityForecast {
        let now = self.latest.max(now);
        if self.in_debt > 0
            && let Some(slot) = self.table.find(hash)
        {
            self.latest = now;
            self.settle(counting, slot, hash);
        }
        let mut forecast = counting.forecast(self.look(hash), now);
        if let CapacityForecast::Window(window) = &mut forecast {
            window.debt = self.cold.debts.get(hash);
        }
        forecast
    }

    pub(super) fn remaining<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        hash: u64,
        now: u64,
    ) -> RemainingQuota {
        let now = self.latest.max(now);
        if self.in_debt > 0
            && let CapacityForecast::Window(window) = self.forecast(counting, hash, now)
            && window.debt > 0
        {
            return RemainingQuota {
                quota: window.quota,
                remaining: 0,
                debt: window.debt,
                reset: window.unit_at(0).saturating_sub(now),
            };
        }
        counting.remaining(self.look(hash), now)
    }

    pub(super) fn give_back<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        hash: u64,
        at: u64,
        cost: u32,
    ) {
        self.admitted_total -= u64::from(cost).min(self.admitted_total);
        if let Some(slot) = self.table.find(hash).and_then(|i| self.table.get(i)) {
            counting.give_back(slot, at, cost);
        }
    }

    /// Returns a key's slot, or an empty one.
    fn look(&mut self, hash: u64) -> Slot<'_, D> {
        let own = self.table.find(hash).and_then(|i| self.table.get(i));
        own.unwrap_or_else(|| {
            self.cold.unknown = (0, D::default());
            let (word, detail) = &mut self.cold.unknown;
            Slot { word, detail }
        })
    }

    /// Finds a slot for a new key, if it may have one.
    #[cold]
    fn insert<C: Counting<Detail = D>>(
        &mut self,
        counting: &C,
        spare: &SpareKeys,
        hash: u64,
    ) -> NewKey {
        let mut free = self.evict(counting, SEARCH);
        if free == 0 && spare.take() {
            free = 1;
        }
        if free == 0 {
            free = self.evict(counting, SEARCH_WHEN_FULL);
        }
        if let Some(more) = free.checked_sub(1) {
            spare.give(more);
            return NewKey::Counted(self.table.insert(hash, 0, D::default()));
        }
        self.cold.overflowed_total += 1;
        match (spare.overflow, self.smallest(counting, hash)) {
            (KeyOverflow::ShareSmallest, Some(smallest)) => {
                NewKey::Counted(self.take_over(counting, smallest, hash))
            }
            (KeyOverflow::Refuse, _) => NewKey::Refused,
            // None is the smallest in a shard without a key, when all the others have them all.
            (KeyOverflow::Admit, _) | (KeyOverflow::ShareSmallest, None) => NewKey::Uncounted,
        }
    }

    /// Gives the slot of another key to a new one, with what was counted there, but no more than
    /// half of what fits: whoever is new gets in.
    fn take_over<C: Counting<Detail = D>>(&mut self, counting: &C, i: usize, hash: u64) -> usize {
        let now = self.latest;
        let (word, detail) = match self.table.get(i) {
            Some(Slot { word, detail }) => {
                counting.keep_half(Slot { word, detail }, now);
                (*word, *detail)
            }
            None => (0, D::default()),
        };
        if let Some(displaced) = self.table.hash(i) {
            self.cold.debts.forget(displaced);
            self.in_debt = self.cold.debts.len();
        }
        self.table.remove(i);
        self.table.insert(hash, word, detail)
    }

    /// Returns who has used least, of some twenty that this hash chooses at random: with neighbours
    /// of the hand, a stretch in which all are known would have to give one of them up in every
    /// round.
    fn smallest<C: Counting<Detail = D>>(&mut self, counting: &C, hash: u64) -> Option<usize> {
        let (slots, now) = (self.table.slots(), self.latest);
        let mut smallest: Option<(u64, usize)> = None;
        let places = (0..PLACES).map(|i| home(hash.rotate_left(i * (64 / PLACES)), slots));
        let looked_at = places.flat_map(|place| place..place + SLOTS_PER_PLACE);
        // If all of them are nobody's, there are few; and of few, all are looked at.
        let few = slots <= 2 * SEARCH_WHEN_FULL;
        for (looks, at) in looked_at.chain(0..slots).enumerate() {
            if looks >= SEARCH_WHEN_FULL && smallest.is_some() && !few {
                break;
            }
            let i = if at < slots { at } else { at - slots };
            if let Some(slot) = self.table.get(i) {
                let used = counting.used(slot, now);
                if smallest.is_none_or(|(least, _)| used < least) {
                    smallest = Some((used, i));
                }
            }
        }
        smallest.map(|(_, i)| i)
    }

    /// Goes on with another way of counting.
    pub(super) fn adopt<C: Counting<Detail = D>>(&mut self, counting: &C, before: &C, now: u64) {
        self.latest = self.latest.max(now);
        for i in 0..self.table.slots() {
            if self.in_debt > 0
                && let Some(hash) = self.table.hash(i)
            {
                self.settle(before, i, hash);
                self.cold.debts.settled(hash, self.latest);
            }
            if let Some(slot) = self.table.get(i) {
                counting.adopt(before, slot, self.latest);
            }
        }
    }

    /// Moves the hand on over so many slots and forgets the idle keys that it finds. Returns how
    /// many.
    fn evict<C: Counting<Detail = D>>(&mut self, counting: &C, search: usize) -> usize {
        let (slots, before) = (self.table.slots(), self.table.keys());
        for _ in 0..search.min(slots) {
            let (i, latest) = (self.cold.hand.at(), self.latest);
            if self.in_debt > 0
                && let Some(hash) = self.table.hash(i)
            {
                self.settle(counting, i, hash);
            }
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

/// How many more keys may be kept, in all shards together, and what happens to those that are more.
#[derive(Debug)]
pub(super) struct SpareKeys {
    spare: AtomicUsize,
    overflow: KeyOverflow,
    /// How long a key counts at most, in nanoseconds.
    window: u64,
}

impl SpareKeys {
    pub(super) fn new(keys: usize, overflow: KeyOverflow, window: u64) -> Self {
        Self {
            spare: AtomicUsize::new(keys),
            overflow,
            window,
        }
    }

    fn take(&self) -> bool {
        self.spare
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn give(&self, keys: usize) {
        if keys > 0 {
            self.spare.fetch_add(keys, Relaxed);
        }
    }
}
