//! Conservative sub-window counters, packed; see `global/hub.rs` for why they keep the promise.

use super::super::forecast::{Span, Window};

/// Cell: the sub-window's number and its place in the ring, then 16 words of counts, of 16 or 32
/// bits each; the last of them is their sum.
#[derive(Clone, Copy, Debug)]
pub(in crate::rate_limit) struct Counters {
    pub(super) quota: u64,
    sub: u64,
    /// Counts in the ring: one more than a window has sub-windows.
    len: u64,
    /// Bits per count.
    bits: u32,
}

const WORDS: u64 = 16;
/// Leaves 8 bits for the place in the ring.
const LAST_TAG: u64 = (1 << 56) - 1;

impl Counters {
    /// 62 sub-windows for quotas of 16 bits, 30 for larger ones, in the same space.
    pub(super) fn new(quota: u32, window: u64) -> Self {
        let bits = if quota <= u16::MAX.into() { 16 } else { 32 };
        let len = WORDS * 64 / u64::from(bits) - 1;
        Self {
            quota: quota.into(),
            sub: window.div_ceil(len - 1),
            len,
            bits,
        }
    }

    pub(super) fn words(&self) -> usize {
        1 + WORDS as usize
    }

    pub(super) fn take(&self, cell: &mut [u64], cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let (tag, at) = self.advance(cell, now);
        let (used, cost) = (self.get(cell, self.len), u64::from(cost));
        if used + cost <= self.quota {
            self.add(cell, at, cost);
            self.add(cell, self.len, cost);
            return Ok(tag);
        }
        let mut must_leave = used + cost - self.quota;
        for (at, count) in self.leaving(cell) {
            if count >= must_leave {
                return Err(Some(at));
            }
            must_leave -= count;
        }
        Err(None)
    }

    pub(super) fn give_back(&self, cell: &mut [u64], tag: u64, cost: u32) {
        let (current, at) = split(cell[0]);
        let Some(age) = current.checked_sub(tag).filter(|age| *age < self.len) else {
            return;
        };
        let at = (at + self.len - age) % self.len;
        let cost = u64::from(cost).min(self.get(cell, at));
        self.sub(cell, at, cost);
        self.sub(cell, self.len, cost);
    }

    pub(super) fn idle(&self, cell: &[u64], now: u64) -> bool {
        let (tag, _) = split(cell[0]);
        self.get(cell, self.len) == 0 || self.tag(now).saturating_sub(tag) >= self.len
    }

    pub(super) fn window(&self, cell: &mut [u64], now: u64) -> Window {
        let (tag, _) = self.advance(cell, now);
        Window {
            now: now.max(tag.saturating_mul(self.sub)),
            quota: self.quota,
            used: self.get(cell, self.len),
            leaving: self.leaving(cell).collect(),
            span: Span::Coarse {
                sub: self.sub,
                len: self.len,
            },
        }
    }

    /// Moves on to the present; returns the sub-window that counts and its place.
    #[inline]
    fn advance(&self, cell: &mut [u64], now: u64) -> (u64, u64) {
        let (tag, at) = split(cell[0]);
        let passed = self.tag(now).saturating_sub(tag);
        if passed == 0 {
            return (tag, at);
        }
        let mut at = at;
        if passed >= self.len || self.get(cell, self.len) == 0 {
            cell[1..].fill(0);
            at = 0;
        } else {
            for _ in 0..passed {
                at = if at + 1 == self.len { 0 } else { at + 1 };
                let leaving = self.get(cell, at);
                self.sub(cell, at, leaving);
                self.sub(cell, self.len, leaving);
            }
        }
        cell[0] = (tag + passed) << 8 | at;
        (tag + passed, at)
    }

    /// When how much leaves, oldest first.
    fn leaving(&self, cell: &[u64]) -> impl Iterator<Item = (u64, u64)> {
        let (tag, at) = split(cell[0]);
        (1..=self.len).filter_map(move |i| {
            let count = self.get(cell, (at + i) % self.len);
            (count > 0).then(|| ((tag + i).saturating_mul(self.sub), count))
        })
    }

    fn tag(&self, now: u64) -> u64 {
        (now / self.sub).min(LAST_TAG)
    }

    /// The word and the shift of a count.
    fn place(&self, i: u64) -> (usize, u64) {
        let i = i * u64::from(self.bits);
        (1 + (i / 64) as usize, i % 64)
    }

    fn get(&self, cell: &[u64], i: u64) -> u64 {
        let (word, shift) = self.place(i);
        cell[word] >> shift & ((1 << self.bits) - 1)
    }

    /// No count exceeds the quota, and the quota fits.
    fn add(&self, cell: &mut [u64], i: u64, n: u64) {
        let (word, shift) = self.place(i);
        cell[word] += n << shift;
    }

    fn sub(&self, cell: &mut [u64], i: u64, n: u64) {
        let (word, shift) = self.place(i);
        cell[word] -= n << shift;
    }
}

fn split(header: u64) -> (u64, u64) {
    (header >> 8, header & 0xff)
}
