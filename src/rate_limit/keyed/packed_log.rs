//! The exact log of a small quota: a ring of times, one for each unit of cost.
//!
//! A time is kept as the lower half of its number of ticks, which is enough next to the newest of
//! them, kept whole in the word: no other is older than a window, and a window is 2^31 ticks at most. Up to two
//! seconds a tick is a nanosecond; in a longer window times are rounded up, so that each is counted
//! for at most two ticks longer than it must: a billionth of the window.

use super::super::{
    forecast::{Span, Supply, Window},
    status::Level,
};
use super::{
    cells::Cell,
    form::{Form, Line, RING, level},
};

#[derive(Debug)]
pub(super) struct Times {
    quota: usize,
    /// In nanoseconds.
    tick: u64,
    /// In ticks.
    window: u64,
}

/// The largest quota whose times fit.
pub(super) const MOST: u32 = (RING / 4) as u32;

/// A cell, opened: its `sum` holds where the oldest time is, and how many there are.
struct Ring<'a> {
    head: usize,
    len: usize,
    newest: &'a mut u64,
    line: &'a mut Line,
}

impl Times {
    /// Of a quota up to [`MOST`].
    pub(super) fn new(quota: u32, window: u64) -> Self {
        let tick = window.div_ceil(1 << 31);
        Self {
            quota: quota.min(MOST) as usize,
            tick,
            window: window.div_ceil(tick),
        }
    }

    /// Lets go what has left.
    fn advance<'a>(&self, cell: Cell<'a, Line>, now: u64) -> Ring<'a> {
        let now = now / self.tick;
        let mut ring = Ring::open(cell);
        while ring.len > 0 && now.saturating_sub(ring.get(0)) >= self.window {
            ring.head = place(ring.head + 1);
            ring.len -= 1;
        }
        ring
    }

    /// When an admission at this tick leaves.
    fn leaves(&self, at: u64) -> u64 {
        at.saturating_add(self.window).saturating_mul(self.tick)
    }

    fn window(&self, cell: Cell<'_, Line>, now: u64) -> Window {
        let ring = self.advance(cell, now);
        let leaving = (0..ring.len).map(|i| (self.leaves(ring.get(i)), 1));
        let window = Window {
            now,
            quota: self.quota as u64,
            used: ring.len as u64,
            leaving: leaving.collect(),
            span: Span::Exact(self.window * self.tick),
        };
        ring.close();
        window
    }
}

impl Form for Times {
    type Body = Line;

    fn quota(&self) -> u32 {
        self.quota as u32
    }

    fn fits(&self, cost: u32) -> bool {
        cost as usize <= self.quota
    }

    fn take(&self, cell: Cell<'_, Line>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut ring = self.advance(cell, now);
        let cost = cost as usize;
        let taken = match (ring.len + cost).saturating_sub(self.quota) {
            0 => {
                // A clock that went backwards counts as the newest time.
                let at = now.div_ceil(self.tick).max(*ring.newest);
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

    fn give_back(&self, cell: Cell<'_, Line>, at: u64, cost: u32) {
        let mut ring = Ring::open(cell);
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

    fn idle(&self, cell: Cell<'_, Line>, now: u64) -> bool {
        // What is newer than the last time that is kept has been given back.
        let (_, len) = split(cell.body.sum);
        len == 0 || (now / self.tick).saturating_sub(*cell.word) >= self.window
    }

    fn level(&self, cell: Cell<'_, Line>, now: u64) -> Level {
        level(&self.window(cell, now), now)
    }

    fn supply(&self, cell: Cell<'_, Line>, now: u64) -> Supply {
        Supply::Window(self.window(cell, now))
    }
}

fn split(sum: u32) -> (usize, usize) {
    ((sum >> 16) as usize, (sum & 0xffff) as usize)
}

fn place(i: usize) -> usize {
    let most = MOST as usize;
    if i >= most { i - most } else { i }
}

impl<'a> Ring<'a> {
    fn open(cell: Cell<'a, Line>) -> Self {
        let (head, len) = split(cell.body.sum);
        Self {
            head,
            len,
            newest: cell.word,
            line: cell.body,
        }
    }

    fn close(self) {
        self.line.sum = (self.head as u32) << 16 | self.len as u32;
    }

    fn get(&self, i: usize) -> u64 {
        let bytes = &self.line.ring.as_chunks::<4>().0[place(self.head + i)];
        let before = (*self.newest as u32).wrapping_sub(u32::from_le_bytes(*bytes));
        *self.newest - u64::from(before)
    }

    fn set(&mut self, i: usize, time: u64) {
        let i = place(self.head + i);
        self.line.ring.as_chunks_mut::<4>().0[i] = (time as u32).to_le_bytes();
    }

    fn push(&mut self, time: u64) {
        self.set(self.len, time);
        self.len += 1;
    }
}
