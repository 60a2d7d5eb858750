//! Conservative sub-window counters: constant memory, and never more than the quota.
//!
//! A window of `n` sub-windows, wherever it starts, touches at most `n + 1` of them; so the sum of
//! the last `n + 1` counts, the oldest of them in full, is never less than what any window that
//! ends now has admitted. (Counters that take only a share of the oldest one guess where in it the
//! calls were, and can let nearly twice the quota into one window.) The price: an admission counts
//! up to one sub-window longer than it must.

use crate::rate_limit::forecast::{Span, Window};

/// Sub-windows per window. When 100 calls per window are allowed and 150 arrive, at random, some 60
/// sub-windows let 97 % of the quota be used, ten let 91 %, and the exact log 98 %.
const SUB_WINDOWS: u64 = 64;

#[derive(Debug)]
pub(super) struct Hub {
    quota: u64,
    sub: u64,
    /// The number of the current sub-window. It never goes back.
    tag: u64,
    used: u64,
    /// Given out since the beginning, less what came back.
    pub(super) granted: u64,
    counts: Box<[u64]>,
}

impl Hub {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        Self {
            quota: quota.into(),
            sub: window.div_ceil(SUB_WINDOWS),
            tag: 0,
            used: 0,
            granted: 0,
            counts: vec![0; SUB_WINDOWS as usize + 1].into(),
        }
    }

    pub(super) fn sub(&self) -> u64 {
        self.sub
    }

    pub(super) fn quota(&self) -> u64 {
        self.quota
    }

    pub(super) fn set_quota(&mut self, quota: u32) {
        self.quota = quota.into();
    }

    pub(super) fn free(&self) -> u64 {
        self.quota.saturating_sub(self.used)
    }

    fn len(&self) -> u64 {
        self.counts.len() as u64
    }

    fn count(&mut self, tag: u64) -> &mut u64 {
        let len = self.counts.len();
        &mut self.counts[(tag % len as u64) as usize]
    }

    /// Moves on to this sub-window, and returns the one that counts.
    pub(super) fn advance(&mut self, tag: u64) -> u64 {
        while self.tag < tag {
            if self.used == 0 {
                self.tag = tag;
                break;
            }
            self.tag += 1;
            let leaving = std::mem::take(self.count(self.tag));
            self.used -= leaving;
        }
        self.tag
    }

    /// Gives out `n`, which must be free.
    pub(super) fn draw(&mut self, n: u64) {
        self.used += n;
        self.granted += n;
        *self.count(self.tag) += n;
    }

    /// Takes back `n` that were drawn in this sub-window, if it still counts.
    pub(super) fn give_back(&mut self, tag: u64, n: u64) {
        self.granted -= n.min(self.granted);
        if tag <= self.tag && self.tag - tag < self.len() {
            let count = self.count(tag);
            let n = n.min(*count);
            *count -= n;
            self.used -= n;
        }
    }

    /// When `cost` will be free.
    pub(super) fn room_at(&self, cost: u64) -> u64 {
        let mut must_leave = (self.used + cost).saturating_sub(self.quota);
        if must_leave == 0 {
            return self.tag.saturating_mul(self.sub);
        }
        for (at, count) in self.leaving() {
            if count >= must_leave {
                return at;
            }
            must_leave -= count;
        }
        u64::MAX
    }

    /// When the oldest count leaves.
    pub(super) fn next(&self) -> Option<u64> {
        Some(self.leaving().next()?.0)
    }

    pub(super) fn supply(&self, now: u64) -> Window {
        Window {
            now: now.max(self.tag.saturating_mul(self.sub)),
            quota: self.quota,
            used: self.used,
            leaving: self.leaving().collect(),
            span: Span::Coarse {
                sub: self.sub,
                len: self.len(),
            },
        }
    }

    /// When how much leaves, oldest first.
    fn leaving(&self) -> impl Iterator<Item = (u64, u64)> {
        let len = self.len();
        (self.tag.saturating_sub(len - 1)..=self.tag).filter_map(move |tag| {
            let count = self.counts[(tag % len) as usize];
            let at = (tag + len).saturating_mul(self.sub);
            (count > 0).then_some((at, count))
        })
    }
}
