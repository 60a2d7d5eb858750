//! Conservative sub-window counters, packed; see `global/sub_windows.rs` for why they keep the
//! promise.
//!
//! The word holds the number of the newest sub-window, and a lease: what may be admitted in it
//! without a look at the ring, where it is counted already. So only the first call of a key in each
//! sub-window looks further than the word.

use super::{
    counting::{Counting, PackedWindow, RING_BYTES, remaining},
    slot_table::Slot,
};
use crate::rate_limit::{
    capacity_forecast::{CapacityForecast, CountedFor, WindowForecast},
    status::RemainingQuota,
};

/// A ring of counts of `BYTES` bytes each, which the quota fits into. The count of a sub-window is
/// at its number, modulo their number: one more than a window has sub-windows.
///
/// # Invariants
/// 1. The `sum` of a window is the sum of the counts in its ring, and never above the largest quota
///    that there has been.
/// 2. What is leased is counted in the newest sub-window.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedSubWindows<const BYTES: usize> {
    quota: u32,
    /// How long a sub-window is, in nanoseconds.
    length: u64,
}

const LEASE_BITS: u32 = 16;
const MOST_LEASED: u32 = (1 << LEASE_BITS) - 1;
/// After 200 years of the shortest windows.
const LAST_NUMBER: u64 = u64::MAX >> LEASE_BITS;

/// A slot, opened: nothing is leased.
struct CountRing<'a, const BYTES: usize> {
    newest: u64,
    word: &'a mut u64,
    window: &'a mut PackedWindow,
}

impl<const BYTES: usize> PackedSubWindows<BYTES> {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        debug_assert!(u64::from(quota) < 1 << (8 * BYTES), "{quota} is too much");
        Self {
            quota,
            length: window.div_ceil(CountRing::<BYTES>::LEN - 1),
        }
    }

    /// Returns how long a sub-window is, in nanoseconds.
    #[inline]
    pub(super) fn sub_window(&self) -> u64 {
        self.length
    }

    /// Returns how long the window is, in nanoseconds, rounded up.
    pub(super) fn window_length(&self) -> u64 {
        let parts = CountRing::<BYTES>::LEN - 1;
        self.length.saturating_mul(parts)
    }

    /// Returns the number of the sub-window at this time.
    #[inline]
    fn number(&self, now: u64) -> u64 {
        (now / self.length).min(LAST_NUMBER)
    }

    #[inline(never)]
    fn take_from_ring(
        &self,
        mut ring: CountRing<'_, BYTES>,
        cost: u32,
        number: u64,
    ) -> Result<u64, Option<u64>> {
        ring.advance(number);
        let left = self.quota.saturating_sub(ring.window.sum);
        match left.checked_sub(cost) {
            Some(left) => {
                let number = ring.newest;
                ring.lend(cost, left.min(MOST_LEASED));
                Ok(number)
            }
            None => {
                // More than the quota if that was lowered.
                let more = ring.window.sum.saturating_sub(self.quota);
                Err(self.admits_at(&ring, (cost - left).saturating_add(more)))
            }
        }
    }

    fn admits_at(&self, ring: &CountRing<'_, BYTES>, mut must_leave: u32) -> Option<u64> {
        for (number, count) in ring.leaving() {
            if count >= must_leave {
                return Some(number.saturating_mul(self.length));
            }
            must_leave -= count;
        }
        None
    }

    fn window(&self, slot: Slot<'_, PackedWindow>, now: u64) -> WindowForecast {
        let mut ring = CountRing::<BYTES>::open(slot);
        ring.advance(self.number(now));
        let leaving = ring.leaving();
        let leaving =
            leaving.map(|(number, count)| (number.saturating_mul(self.length), count.into()));
        WindowForecast {
            now: now.max(ring.newest.saturating_mul(self.length)),
            quota: self.quota.into(),
            used: ring.window.sum.into(),
            debt: 0,
            leaving: leaving.collect(),
            counted_for: CountedFor::SubWindows {
                length: self.length,
                count: CountRing::<BYTES>::LEN,
            },
        }
    }
}

impl<const BYTES: usize> Counting for PackedSubWindows<BYTES> {
    type Detail = PackedWindow;

    fn quota(&self) -> u32 {
        self.quota
    }

    #[inline]
    fn fits(&self, cost: u32) -> bool {
        cost <= self.quota
    }

    #[inline]
    fn take(&self, slot: Slot<'_, PackedWindow>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        if let Some(number) = spend_lease(slot.word, self.length, cost, now) {
            return Ok(number);
        }
        self.take_from_ring(CountRing::open(slot), cost, self.number(now))
    }

    fn at(&self, time: u64) -> u64 {
        self.number(time)
    }

    fn end_lease(&self, slot: Slot<'_, PackedWindow>) {
        CountRing::<BYTES>::open(slot);
    }

    fn refund(&self, slot: Slot<'_, PackedWindow>, mut cost: u64, now: u64) {
        let mut ring = CountRing::<BYTES>::open(slot);
        ring.advance(self.number(now));
        for age in (0..CountRing::<BYTES>::LEN.min(ring.newest + 1)).rev() {
            let number = ring.newest - age;
            let count = ring.get(number % CountRing::<BYTES>::LEN);
            let taken = u64::from(count).min(cost);
            cost -= taken;
            ring.uncount(number, taken as u32);
        }
    }

    fn give_back(&self, slot: Slot<'_, PackedWindow>, number: u64, cost: u32) {
        let mut ring = CountRing::<BYTES>::open(slot);
        let age = ring.newest.checked_sub(number);
        if age.is_some_and(|age| age < CountRing::<BYTES>::LEN) {
            let left = cost - ring.uncount(number, cost);
            // Counted anew in a coarser form, it may be one further on. (Not if its own has left:
            // what is further on then is somebody else's.)
            if number < ring.newest {
                ring.uncount(number + 1, left);
            }
        }
    }

    fn is_idle(&self, slot: Slot<'_, PackedWindow>, now: u64) -> bool {
        let (newest, leased) = split(*slot.word);
        // The word is at hand, and nearly always enough.
        self.number(now).saturating_sub(newest) >= CountRing::<BYTES>::LEN
            || slot.detail.sum == leased
    }

    fn used(&self, slot: Slot<'_, PackedWindow>, _: u64) -> u64 {
        let (_, leased) = split(*slot.word);
        slot.detail.sum.saturating_sub(leased).into()
    }

    fn keep_half(&self, slot: Slot<'_, PackedWindow>, now: u64) {
        let mut ring = CountRing::<BYTES>::open(slot);
        ring.advance(self.number(now));
        let mut left = self.quota / 2;
        for age in 0..CountRing::<BYTES>::LEN.min(ring.newest + 1) {
            let number = ring.newest - age;
            let count = ring.get(number % CountRing::<BYTES>::LEN);
            let kept = count.min(left);
            left -= kept;
            ring.uncount(number, count - kept);
        }
    }

    fn remaining(&self, slot: Slot<'_, PackedWindow>, now: u64) -> RemainingQuota {
        remaining(&self.window(slot, now), now)
    }

    fn forecast(&self, slot: Slot<'_, PackedWindow>, now: u64) -> CapacityForecast {
        CapacityForecast::Window(self.window(slot, now))
    }
}

/// Takes `cost` of what is leased in the newest sub-window, if that is the one of now. Returns its
/// number. (A word that is no lease is one that has length 0.)
#[inline(always)]
pub(super) fn spend_lease(word: &mut u64, length: u64, cost: u32, now: u64) -> Option<u64> {
    let (newest, leased) = split(*word);
    // Whether the newest sub-window is that of now, without a division.
    let since = now.wrapping_sub(newest.wrapping_mul(length));
    (since < length && leased >= cost).then(|| {
        *word -= u64::from(cost);
        newest
    })
}

/// Returns the newest sub-window, and what is leased in it.
#[inline]
fn split(word: u64) -> (u64, u32) {
    (word >> LEASE_BITS, word as u32 & MOST_LEASED)
}

impl<'a, const BYTES: usize> CountRing<'a, BYTES> {
    const LEN: u64 = (RING_BYTES / BYTES) as u64;

    /// Takes what is leased back into the counts.
    fn open(slot: Slot<'a, PackedWindow>) -> Self {
        let (newest, leased) = split(*slot.word);
        let mut ring = Self {
            newest,
            word: slot.word,
            window: slot.detail,
        };
        ring.uncount(newest, leased);
        ring.set_word(0);
        ring
    }

    fn set_word(&mut self, leased: u32) {
        debug_assert!(leased <= MOST_LEASED && self.newest <= LAST_NUMBER);
        *self.word = self.newest << LEASE_BITS | u64::from(leased);
    }

    /// Counts what is taken, and what may be.
    fn lend(&mut self, taken: u32, leased: u32) {
        let at = self.newest % Self::LEN;
        // No count exceeds the sum, and that not the quota.
        self.set(at, self.get(at) + taken + leased);
        self.window.sum += taken + leased;
        self.set_word(leased);
    }

    /// Takes back `n`, or what there is. Returns how much.
    fn uncount(&mut self, number: u64, n: u32) -> u32 {
        let at = number % Self::LEN;
        let count = self.get(at);
        let n = n.min(count);
        self.set(at, count - n);
        debug_assert!(n <= self.window.sum, "a part is more than the sum");
        self.window.sum -= n;
        n
    }

    /// Moves on to the present.
    fn advance(&mut self, number: u64) {
        let passed = number.saturating_sub(self.newest);
        if passed == 0 {
            return;
        }
        if passed >= Self::LEN {
            *self.window = PackedWindow::default();
        } else if self.window.sum > 0 {
            let mut at = self.newest % Self::LEN;
            for _ in 0..passed {
                at = if at + 1 == Self::LEN { 0 } else { at + 1 };
                self.window.sum -= self.get(at);
                self.set(at, 0);
            }
        }
        self.newest = number;
        self.set_word(0);
    }

    /// Returns in which sub-window how much leaves, oldest first.
    fn leaving(&self) -> impl Iterator<Item = (u64, u32)> {
        (1..=Self::LEN).filter_map(move |i| {
            let number = self.newest + i;
            let count = self.get(number % Self::LEN);
            (count > 0).then_some((number, count))
        })
    }

    #[inline]
    fn get(&self, i: u64) -> u32 {
        let i = i as usize * BYTES;
        let mut count = [0; 4];
        count[..BYTES].copy_from_slice(&self.window.ring[i..i + BYTES]);
        u32::from_le_bytes(count)
    }

    #[inline]
    fn set(&mut self, i: u64, count: u32) {
        debug_assert!(u64::from(count) < 1 << (8 * BYTES), "{count} is too much");
        let i = i as usize * BYTES;
        self.window.ring[i..i + BYTES].copy_from_slice(&count.to_le_bytes()[..BYTES]);
    }
}
