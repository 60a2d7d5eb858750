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

    /// Takes back an admission, because the call never started.
    fn give_back(&self, slot: Slot<'_, Self::Detail>, at: u64, cost: u32);

    /// Returns whether forgetting the key would change nothing.
    fn is_idle(&self, slot: Slot<'_, Self::Detail>, now: u64) -> bool;

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
#[derive(Debug)]
pub(super) struct KeyedGcra {
    gcra: Gcra,
    quota: u32,
}

impl KeyedGcra {
    pub(super) fn new(quota: u32, window: u64, burst: u32) -> Self {
        let gcra = Gcra::new(quota, window, burst);
        Self { gcra, quota }
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

    fn give_back(&self, slot: Slot<'_, ()>, at: u64, cost: u32) {
        if let Some(tat) = self.gcra.give_back(*slot.word, at, cost) {
            *slot.word = tat;
        }
    }

    fn is_idle(&self, slot: Slot<'_, ()>, now: u64) -> bool {
        *slot.word <= now
    }

    fn remaining(&self, slot: Slot<'_, ()>, now: u64) -> RemainingQuota {
        let (remaining, reset) = self.gcra.remaining(*slot.word, now);
        RemainingQuota {
            quota: self.quota.into(),
            remaining: remaining.into(),
            reset,
        }
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
        reset: next.map_or(0, |(at, _)| at.saturating_sub(now)),
    }
}
