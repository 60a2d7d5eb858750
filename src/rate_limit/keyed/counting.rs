//! What is kept of a key, and what is done with it.

use super::super::{
    forecast::{Supply, Window},
    gcra::Pace,
    status::Level,
};
use super::cells::Cell;
use std::fmt::Debug;

/// A form of counting.
pub(super) trait Form {
    /// What it keeps of a key besides the word in its head.
    type Body: Copy + Debug + Default;

    fn quota(&self) -> u32;

    /// Whether this cost can be admitted at all.
    fn fits(&self, cost: u32) -> bool;

    /// What identifies the admission, or when it would be admitted, or never.
    fn take(&self, cell: Cell<'_, Self::Body>, cost: u32, now: u64) -> Result<u64, Option<u64>>;

    fn give_back(&self, cell: Cell<'_, Self::Body>, at: u64, cost: u32);

    /// Whether forgetting the cell would change nothing.
    fn idle(&self, cell: Cell<'_, Self::Body>, now: u64) -> bool;

    fn level(&self, cell: Cell<'_, Self::Body>, now: u64) -> Level;

    fn supply(&self, cell: Cell<'_, Self::Body>, now: u64) -> Supply;
}

/// What is kept of a window: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line {
    /// What the window holds, or where it is in the ring.
    pub(super) sum: u32,
    pub(super) ring: [u8; RING],
}

pub(super) const RING: usize = 60;

impl Default for Line {
    fn default() -> Self {
        Self {
            sum: 0,
            ring: [0; RING],
        }
    }
}

/// The generic cell rate algorithm, with the quota that it was made of. The word is the theoretical
/// arrival time, and there is no more.
#[derive(Debug)]
pub(super) struct Paced(pub(super) Pace, pub(super) u32);

impl Form for Paced {
    type Body = ();

    fn quota(&self) -> u32 {
        self.1
    }

    #[inline]
    fn fits(&self, cost: u32) -> bool {
        cost <= self.0.burst
    }

    #[inline]
    fn take(&self, cell: Cell<'_, ()>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        *cell.word = self.0.take(*cell.word, cost, now)?;
        Ok(*cell.word)
    }

    fn give_back(&self, cell: Cell<'_, ()>, at: u64, cost: u32) {
        if let Some(tat) = self.0.give_back(*cell.word, at, cost) {
            *cell.word = tat;
        }
    }

    fn idle(&self, cell: Cell<'_, ()>, now: u64) -> bool {
        *cell.word <= now
    }

    fn level(&self, cell: Cell<'_, ()>, now: u64) -> Level {
        let (left, reset) = self.0.left(*cell.word, now);
        Level {
            quota: self.1.into(),
            left: left.into(),
            reset,
        }
    }

    fn supply(&self, cell: Cell<'_, ()>, now: u64) -> Supply {
        Supply::Pace {
            pace: self.0,
            tat: *cell.word,
            now,
        }
    }
}

/// What a window's admissions leave of its quota.
pub(super) fn level(window: &Window, now: u64) -> Level {
    let next = window.leaving.first();
    Level {
        quota: window.quota,
        left: window.quota.saturating_sub(window.used),
        reset: next.map_or(0, |(at, _)| at.saturating_sub(now)),
    }
}
