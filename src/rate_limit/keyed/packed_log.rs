//! The exact log of a small quota: a ring of times, one for each unit of cost.
//!
//! A time is kept as the lower half of its number of ticks, which is enough next to the newest of
//! them, kept whole in the word: no other is older than a window, and a window is 2^31 ticks at
//! most. Up to two seconds a tick is a nanosecond; in a longer window times are rounded up, so that
//! each is counted for at most two ticks longer than it must: a billionth of the window.

use super::{
    counting::{Counting, PackedWindow, RING_BYTES, remaining},
    slot_table::Slot,
};
use crate::rate_limit::{
    capacity_forecast::{CapacityForecast, CountedFor, WindowForecast},
    status::RemainingQuota,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct PackedLog {
    quota: usize,
    /// In nanoseconds.
    tick: u64,
    /// In ticks.
    window: u64,
}

/// The largest quota whose times fit.
pub(super) const LARGEST_QUOTA: u32 = (RING_BYTES / 4) as u32;

/// A slot, opened: the `sum` of its window holds where the oldest time is, and how many there are.
///
/// # Invariants
/// 1. There are no more times than the largest quota that there has been.
/// 2. From the oldest to the newest they ascend, and none is later than `newest`.
struct TimeRing<'a> {
    oldest: usize,
    len: usize,
    newest: &'a mut u64,
    window: &'a mut PackedWindow,
}

impl PackedLog {
    /// Makes the log of a quota up to [`LARGEST_QUOTA`].
    pub(super) fn new(quota: u32, window: u64) -> Self {
        debug_assert!(quota <= LARGEST_QUOTA, "{quota} times do not fit");
        let tick = window.div_ceil(1 << 31);
        Self {
            quota: quota.min(LARGEST_QUOTA) as usize,
            tick,
            window: window.div_ceil(tick),
        }
    }

    /// Returns how long the window is, in nanoseconds, rounded up.
    pub(super) fn window_length(&self) -> u64 {
        self.window.saturating_mul(self.tick)
    }

    /// Lets go what has left.
    fn advance<'a>(&self, slot: Slot<'a, PackedWindow>, now: u64) -> TimeRing<'a> {
        let now = now / self.tick;
        let mut ring = TimeRing::open(slot);
        while ring.len > 0 && now.saturating_sub(ring.get(0)) >= self.window {
            ring.oldest = wrapped(ring.oldest + 1);
            ring.len -= 1;
        }
        ring
    }

    /// Returns when an admission at this tick leaves.
    fn leaves(&self, at: u64) -> u64 {
        at.saturating_add(self.window).saturating_mul(self.tick)
    }

    fn window(&self, slot: Slot<'_, PackedWindow>, now: u64) -> WindowForecast {
        let ring = self.advance(slot, now);
        let leaving = (0..ring.len).map(|i| (self.leaves(ring.get(i)), 1));
        let window = WindowForecast {
            now,
            quota: self.quota as u64,
            used: ring.len as u64,
            debt: 0,
            leaving: leaving.collect(),
            counted_for: CountedFor::Window(self.window * self.tick),
        };
        ring.close();
        window
    }
}

impl Counting for PackedLog {
    type Detail = PackedWindow;

    fn quota(&self) -> u32 {
        self.quota as u32
    }

    fn fits(&self, cost: u32) -> bool {
        cost as usize <= self.quota
    }

    fn take(&self, slot: Slot<'_, PackedWindow>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut ring = self.advance(slot, now);
        let cost = cost as usize;
        let taken = match (ring.len + cost).saturating_sub(self.quota) {
            0 => {
                // A clock that went backwards counts as the newest time.
                let at = self.at(now).max(*ring.newest);
                *ring.newest = at;
                for _ in 0..cost {
                    ring.push(at);
                }
                Ok(at)
            }
            _ if cost > self.quota => Err(None),
            must_leave => Err(Some(self.leaves(ring.get(must_leave - 1)))),
        };
        ring.close();
        taken
    }

    fn at(&self, time: u64) -> u64 {
        time.div_ceil(self.tick)
    }

    fn end_lease(&self, _: Slot<'_, PackedWindow>) {}

    fn refund(&self, slot: Slot<'_, PackedWindow>, cost: u64, now: u64) {
        let mut ring = self.advance(slot, now);
        let less = usize::try_from(cost).map_or(ring.len, |cost| cost.min(ring.len));
        ring.oldest = wrapped(ring.oldest + less);
        ring.len -= less;
        ring.close();
    }

    fn give_back(&self, slot: Slot<'_, PackedWindow>, at: u64, cost: u32) {
        let mut ring = TimeRing::open(slot);
        let (mut kept, mut gone) = (0, 0);
        for i in 0..ring.len {
            let time = ring.get(i);
            if time == at && gone < cost {
                gone += 1;
            } else {
                ring.set(kept, time);
                kept += 1;
            }
        }
        ring.len = kept;
        ring.close();
    }

    fn is_idle(&self, slot: Slot<'_, PackedWindow>, now: u64) -> bool {
        // What is newer than the last time that is kept has been given back.
        let (_, len) = split(slot.detail.sum);
        len == 0 || (now / self.tick).saturating_sub(*slot.word) >= self.window
    }

    fn used(&self, slot: Slot<'_, PackedWindow>, _: u64) -> u64 {
        split(slot.detail.sum).1 as u64
    }

    fn keep_half(&self, slot: Slot<'_, PackedWindow>, now: u64) {
        let mut ring = self.advance(slot, now);
        let more = ring.len.saturating_sub(self.quota / 2);
        ring.oldest = wrapped(ring.oldest + more);
        ring.len -= more;
        ring.close();
    }

    fn remaining(&self, slot: Slot<'_, PackedWindow>, now: u64) -> RemainingQuota {
        remaining(&self.window(slot, now), now)
    }

    fn forecast(&self, slot: Slot<'_, PackedWindow>, now: u64) -> CapacityForecast {
        CapacityForecast::Window(self.window(slot, now))
    }
}

/// Returns where the oldest time is, and how many there are.
fn split(sum: u32) -> (usize, usize) {
    ((sum >> 16) as usize, (sum & 0xffff) as usize)
}

/// Returns where in the ring this is, less than one time around.
fn wrapped(i: usize) -> usize {
    let len = LARGEST_QUOTA as usize;
    debug_assert!(i < 2 * len, "{i} is more than once around");
    if i >= len { i - len } else { i }
}

impl<'a> TimeRing<'a> {
    fn open(slot: Slot<'a, PackedWindow>) -> Self {
        let (oldest, len) = split(slot.detail.sum);
        Self {
            oldest,
            len,
            newest: slot.word,
            window: slot.detail,
        }
    }

    fn close(self) {
        self.window.sum = (self.oldest as u32) << 16 | self.len as u32;
    }

    fn get(&self, i: usize) -> u64 {
        let bytes = &self.window.ring.as_chunks::<4>().0[wrapped(self.oldest + i)];
        let before = (*self.newest as u32).wrapping_sub(u32::from_le_bytes(*bytes));
        *self.newest - u64::from(before)
    }

    fn set(&mut self, i: usize, time: u64) {
        let i = wrapped(self.oldest + i);
        self.window.ring.as_chunks_mut::<4>().0[i] = (time as u32).to_le_bytes();
    }

    fn push(&mut self, time: u64) {
        debug_assert!(self.len < LARGEST_QUOTA as usize, "the ring is full");
        self.set(self.len, time);
        self.len += 1;
    }
}
