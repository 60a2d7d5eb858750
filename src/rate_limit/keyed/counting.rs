//! What is kept of a key, and what is done with it.

use super::slot_table::Slot;
use crate::rate_limit::{
    capacity_forecast::{CapacityForecast, WindowForecast},
    gcra::Gcra,
    status::RemainingQuota,
};
use std::fmt::Debug;

/// A way of counting what a key has been admitted.
pub(super) trait Counting {
    /// What it keeps of a key besides the word in the head of its slot.
    type Detail: Copy + Debug + Default;

    fn quota(&self) -> u32;

    /// Returns whether this cost can be admitted at all.
    fn fits(&self, cost: u32) -> bool;

    /// Returns what identifies the admission, or when it would be admitted, or `None` for never.
    fn take(&self, slot: Slot<'_, Self::Detail>, cost: u32, now: u64) -> Result<u64, Option<u64>>;

    /// Returns what identifies an admission at this time, of a slot that had seen no later one.
    fn at(&self, time: u64) -> u64;

    /// Takes back what a take has drawn beyond its cost.
    fn end_lease(&self, slot: Slot<'_, Self::Detail>);

    /// Counts a cost that is known afterwards. Returns how much of it did not fit.
    fn charge(&self, slot: Slot<'_, Self::Detail>, cost: u64, now: u64) -> u64 {
        let Slot { word, detail } = slot;
        let free = self.remaining(Slot { word, detail }, now).remaining;
        let fits = free.min(cost);
        if let Ok(fits @ 1..) = u32::try_from(fits) {
            let taken = self.take(Slot { word, detail }, fits, now);
            debug_assert!(taken.is_ok(), "{fits} of {free} do not fit");
        }
        cost - fits
    }

    /// Takes back so much of what leaves first.
    fn refund(&self, slot: Slot<'_, Self::Detail>, cost: u64, now: u64);

    /// Takes back an admission, because the call never started.
    fn give_back(&self, slot: Slot<'_, Self::Detail>, at: u64, cost: u32);

    /// Returns whether forgetting the key would change nothing.
    fn is_idle(&self, slot: Slot<'_, Self::Detail>, now: u64) -> bool;

    /// Returns what a key has used, for comparison with others: a look, and so not less than true,
    /// but perhaps more.
    fn used(&self, slot: Slot<'_, Self::Detail>, now: u64) -> u64;

    /// Forgets all but the newest half of what would fit.
    fn keep_half(&self, slot: Slot<'_, Self::Detail>, now: u64);

    /// Takes over a slot from another counting, because the quota was changed.
    fn adopt(&self, before: &Self, slot: Slot<'_, Self::Detail>, now: u64)
    where
        Self: Sized,
    {
        let _ = (before, slot, now);
    }

    fn remaining(&self, slot: Slot<'_, Self::Detail>, now: u64) -> RemainingQuota;

    fn forecast(&self, slot: Slot<'_, Self::Detail>, now: u64) -> CapacityForecast;
}

/// What is kept of a window, packed into a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PackedWindow {
    /// What the window holds, or where it is in the ring.
    pub(super) sum: u32,
    pub(super) ring: [u8; RING_BYTES],
}

pub(super) const RING_BYTES: usize = 60;

impl Default for PackedWindow {
    fn default() -> Self {
        Self {
            sum: 0,
            ring: [0; RING_BYTES],
        }
    }
}

/// The generic cell rate algorithm. The word is the theoretical arrival time, and there is no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyedGcra {
    gcra: Gcra,
    quota: u32,
}

impl KeyedGcra {
    pub(super) fn new(quota: u32, window: u64, burst: u32) -> Self {
        let gcra = Gcra::new(quota, window, burst);
        Self { gcra, quota }
    }

    pub(super) fn burst(&self) -> u32 {
        self.gcra.burst
    }
}

impl Counting for KeyedGcra {
    type Detail = ();

    fn quota(&self) -> u32 {
        self.quota
    }

    #[inline]
    fn fits(&self, cost: u32) -> bool {
        cost <= self.gcra.burst
    }

    #[inline]
    fn take(&self, slot: Slot<'_, ()>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        *slot.word = self.gcra.take(*slot.word, cost, now)?;
        Ok(*slot.word)
    }

    fn at(&self, time: u64) -> u64 {
        time
    }

    fn end_lease(&self, _: Slot<'_, ()>) {}

    fn charge(&self, slot: Slot<'_, ()>, cost: u64, now: u64) -> u64 {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        *slot.word = self.gcra.charge(*slot.word, cost, now);
        0
    }

    fn refund(&self, slot: Slot<'_, ()>, cost: u64, _: u64) {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        *slot.word = self.gcra.refund(*slot.word, cost);
    }

    fn give_back(&self, slot: Slot<'_, ()>, at: u64, cost: u32) {
        if let Some(tat) = self.gcra.give_back(*slot.word, at, cost) {
            *slot.word = tat;
        }
    }

    /// What has been taken is made up for at the new pace.
    fn adopt(&self, before: &Self, slot: Slot<'_, ()>, now: u64) {
        *slot.word = before.gcra.at_the_pace_of(self.gcra, *slot.word, now);
    }

    fn is_idle(&self, slot: Slot<'_, ()>, now: u64) -> bool {
        *slot.word <= now
    }

    fn used(&self, slot: Slot<'_, ()>, now: u64) -> u64 {
        slot.word.saturating_sub(now)
    }

    fn keep_half(&self, slot: Slot<'_, ()>, now: u64) {
        *slot.word = (*slot.word).min(self.gcra.half(now));
    }

    fn remaining(&self, slot: Slot<'_, ()>, now: u64) -> RemainingQuota {
        self.gcra.status(*slot.word, now, self.quota.into())
    }

    fn forecast(&self, slot: Slot<'_, ()>, now: u64) -> CapacityForecast {
        CapacityForecast::Gcra {
            gcra: self.gcra,
            tat: *slot.word,
            now,
        }
    }
}

/// Returns what a window's admissions leave of its quota.
pub(super) fn remaining(window: &WindowForecast, now: u64) -> RemainingQuota {
    let next = window.leaving.first();
    RemainingQuota {
        quota: window.quota,
        remaining: window.quota.saturating_sub(window.used),
        debt: 0,
        reset: next.map_or(0, |(at, _)| at.saturating_sub(now)),
    }
}
