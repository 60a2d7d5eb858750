//! Conservative sub-window counters, packed; see `global/hub.rs` for why they keep the promise.
//!
//! The word holds the number of the newest sub-window, and a lease: what may be admitted in it
//! without a look at the ring, where it is counted already. So only the first call of a key in each
//! sub-window looks further than the word.

use super::super::{
    forecast::{Span, Supply, Window},
    status::Level,
};
use super::{
    cells::Cell,
    form::{Form, Line, RING, level},
};

/// A ring of counts of `BYTES` bytes each, which the quota fits into. The count of a sub-window is
/// at its number, modulo their number: one more than a window has sub-windows.
#[derive(Debug)]
pub(super) struct Counters<const BYTES: usize> {
    quota: u32,
    sub: u64,
}

const LEASE_BITS: u32 = 16;
const MOST_LEASED: u32 = (1 << LEASE_BITS) - 1;
/// After 200 years of the shortest windows.
const LAST_TAG: u64 = u64::MAX >> LEASE_BITS;

/// A cell, opened: nothing is leased.
struct Ring<'a, const BYTES: usize> {
    newest: u64,
    word: &'a mut u64,
    line: &'a mut Line,
}

impl<const BYTES: usize> Counters<BYTES> {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        Self {
            quota,
            sub: window.div_ceil(Ring::<BYTES>::LEN - 1),
        }
    }

    #[inline]
    fn tag(&self, now: u64) -> u64 {
        (now / self.sub).min(LAST_TAG)
    }

    #[inline(never)]
    fn take_from_ring(
        &self,
        mut ring: Ring<'_, BYTES>,
        cost: u32,
        tag: u64,
    ) -> Result<u64, Option<u64>> {
        ring.advance(tag);
        let left = self.quota.saturating_sub(ring.line.sum);
        match left.checked_sub(cost) {
            Some(left) => {
                let tag = ring.newest;
                ring.lend(cost, left.min(MOST_LEASED));
                Ok(tag)
            }
            None => Err(self.admits_at(&ring, cost - left)),
        }
    }

    fn admits_at(&self, ring: &Ring<'_, BYTES>, mut must_leave: u32) -> Option<u64> {
        for (tag, count) in ring.leaving() {
            if count >= must_leave {
                return Some(tag.saturating_mul(self.sub));
            }
            must_leave -= count;
        }
        None
    }

    fn window(&self, cell: Cell<'_, Line>, now: u64) -> Window {
        let mut ring = Ring::<BYTES>::open(cell);
        ring.advance(self.tag(now));
        let leaving = ring.leaving();
        let leaving = leaving.map(|(tag, count)| (tag.saturating_mul(self.sub), count.into()));
        Window {
            now: now.max(ring.newest.saturating_mul(self.sub)),
            quota: self.quota.into(),
            used: ring.line.sum.into(),
            leaving: leaving.collect(),
            span: Span::Coarse {
                sub: self.sub,
                len: Ring::<BYTES>::LEN,
            },
        }
    }
}

impl<const BYTES: usize> Form for Counters<BYTES> {
    type Body = Line;

    fn quota(&self) -> u32 {
        self.quota
    }

    #[inline]
    fn fits(&self, cost: u32) -> bool {
        cost <= self.quota
    }

    #[inline]
    fn take(&self, cell: Cell<'_, Line>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let (newest, leased) = split(*cell.word);
        // Whether the newest sub-window is that of now, without a division.
        let since = now.wrapping_sub(newest.wrapping_mul(self.sub));
        if since < self.sub && leased >= cost {
            *cell.word -= u64::from(cost);
            return Ok(newest);
        }
        self.take_from_ring(Ring::open(cell), cost, self.tag(now))
    }

    fn give_back(&self, cell: Cell<'_, Line>, tag: u64, cost: u32) {
        let mut ring = Ring::<BYTES>::open(cell);
        let age = ring.newest.checked_sub(tag);
        if age.is_some_and(|age| age < Ring::<BYTES>::LEN) {
            ring.less(tag, cost);
        }
    }

    fn idle(&self, cell: Cell<'_, Line>, now: u64) -> bool {
        let (newest, leased) = split(*cell.word);
        // The word is at hand, and nearly always enough.
        self.tag(now).saturating_sub(newest) >= Ring::<BYTES>::LEN || cell.body.sum == leased
    }

    fn level(&self, cell: Cell<'_, Line>, now: u64) -> Level {
        level(&self.window(cell, now), now)
    }

    fn supply(&self, cell: Cell<'_, Line>, now: u64) -> Supply {
        Supply::Window(self.window(cell, now))
    }
}

/// The newest sub-window, and what is leased in it.
#[inline]
fn split(word: u64) -> (u64, u32) {
    (word >> LEASE_BITS, word as u32 & MOST_LEASED)
}

impl<'a, const BYTES: usize> Ring<'a, BYTES> {
    const LEN: u64 = (RING / BYTES) as u64;

    fn open(cell: Cell<'a, Line>) -> Self {
        let (newest, leased) = split(*cell.word);
        let mut ring = Self {
            newest,
            word: cell.word,
            line: cell.body,
        };
        ring.less(newest, leased);
        ring.set_word(0);
        ring
    }

    fn set_word(&mut self, leased: u32) {
        *self.word = self.newest << LEASE_BITS | u64::from(leased);
    }

    /// Counts what is taken, and what may be.
    fn lend(&mut self, taken: u32, leased: u32) {
        let at = self.newest % Self::LEN;
        // No count exceeds the sum, and that not the quota.
        self.set(at, self.get(at) + taken + leased);
        self.line.sum += taken + leased;
        self.set_word(leased);
    }

    fn less(&mut self, tag: u64, by: u32) {
        let at = tag % Self::LEN;
        let count = self.get(at);
        let by = by.min(count);
        self.set(at, count - by);
        self.line.sum -= by;
    }

    /// Moves on to the present.
    fn advance(&mut self, tag: u64) {
        let passed = tag.saturating_sub(self.newest);
        if passed == 0 {
            return;
        }
        if passed >= Self::LEN {
            *self.line = Line::default();
        } else if self.line.sum > 0 {
            let mut at = self.newest % Self::LEN;
            for _ in 0..passed {
                at = if at + 1 == Self::LEN { 0 } else { at + 1 };
                self.line.sum -= self.get(at);
                self.set(at, 0);
            }
        }
        self.newest = tag;
        self.set_word(0);
    }

    /// In which sub-window how much leaves, oldest first.
    fn leaving(&self) -> impl Iterator<Item = (u64, u32)> {
        (1..=Self::LEN).filter_map(move |i| {
            let tag = self.newest + i;
            let count = self.get(tag % Self::LEN);
            (count > 0).then_some((tag, count))
        })
    }

    #[inline]
    fn get(&self, i: u64) -> u32 {
        let i = i as usize * BYTES;
        let mut count = [0; 4];
        count[..BYTES].copy_from_slice(&self.line.ring[i..i + BYTES]);
        u32::from_le_bytes(count)
    }

    #[inline]
    fn set(&mut self, i: u64, count: u32) {
        let i = i as usize * BYTES;
        self.line.ring[i..i + BYTES].copy_from_slice(&count.to_le_bytes()[..BYTES]);
    }
}
