//! The exact log of a small quota: a ring of times, one for each unit of cost.

use super::super::forecast::{Span, Window};

/// Cell: position of the oldest time in the upper half of a word and their number in the lower,
/// then a time per unit of the quota.
#[derive(Clone, Copy, Debug)]
pub(in crate::rate_limit) struct Times {
    pub(super) quota: usize,
    pub(super) window: u64,
}

struct Ring<'a> {
    head: usize,
    len: usize,
    times: &'a mut [u64],
}

impl Times {
    pub(super) fn words(&self) -> usize {
        1 + self.quota
    }

    pub(super) fn take(&self, cell: &mut [u64], cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut ring = self.ring(cell);
        let now = ring.advance(now, self.window);
        let cost = cost as usize;
        let taken = match (ring.len + cost).saturating_sub(self.quota) {
            0 => {
                for _ in 0..cost {
                    ring.push(now);
                }
                Ok(now)
            }
            _ if cost > self.quota => Err(None),
            must_leave => Err(Some(ring.get(must_leave - 1).saturating_add(self.window))),
        };
        cell[0] = ring.header();
        taken
    }

    pub(super) fn give_back(&self, cell: &mut [u64], at: u64, cost: u32) {
        let mut ring = self.ring(cell);
        let mut kept = 0;
        let mut gone = 0;
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
        cell[0] = ring.header();
    }

    pub(super) fn idle(&self, cell: &[u64], now: u64) -> bool {
        let (head, len) = split(cell[0]);
        let newest = len
            .checked_sub(1)
            .map(|i| cell[1 + (head + i) % self.quota]);
        newest.is_none_or(|time| now.saturating_sub(time) >= self.window)
    }

    pub(super) fn window(&self, cell: &mut [u64], now: u64) -> Window {
        let mut ring = self.ring(cell);
        let now = ring.advance(now, self.window);
        let span = Span::Exact(self.window);
        let leaving = (0..ring.len).map(|i| (span.leaves(ring.get(i)), 1));
        let window = Window {
            now,
            quota: self.quota as u64,
            used: ring.len as u64,
            leaving: leaving.collect(),
            span,
        };
        cell[0] = ring.header();
        window
    }

    fn ring<'a>(&self, cell: &'a mut [u64]) -> Ring<'a> {
        let (head, len) = split(cell[0]);
        Ring {
            head,
            len,
            times: &mut cell[1..=self.quota],
        }
    }
}

fn split(header: u64) -> (usize, usize) {
    (
        (header >> 32) as usize,
        (header & u64::from(u32::MAX)) as usize,
    )
}

impl Ring<'_> {
    fn header(&self) -> u64 {
        (self.head as u64) << 32 | self.len as u64
    }

    fn index(&self, i: usize) -> usize {
        match self.head + i {
            i if i >= self.times.len() => i - self.times.len(),
            i => i,
        }
    }

    fn get(&self, i: usize) -> u64 {
        self.times[self.index(i)]
    }

    fn set(&mut self, i: usize, time: u64) {
        let i = self.index(i);
        self.times[i] = time;
    }

    fn push(&mut self, time: u64) {
        self.set(self.len, time);
        self.len += 1;
    }

    /// Lets go what has left; a clock that went backwards counts as the newest time.
    fn advance(&mut self, now: u64, window: u64) -> u64 {
        let Some(newest) = self.len.checked_sub(1) else {
            return now;
        };
        let now = now.max(self.get(newest));
        while self.len > 0 && now - self.get(0) >= window {
            self.head = self.index(1);
            self.len -= 1;
        }
        now
    }
}
