//! A part of the keys, and the hand that finds idle ones.

use super::{
    cells::{Cell, Cells},
    form::Form,
};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// In the order in which it is used: what every call touches makes a cache line with the lock.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shard<B> {
    cells: Cells<B>,
    /// The latest time seen: a key that was forgotten as idle stays so if the clock goes backwards.
    latest: u64,
    /// Admitted since the beginning, less what was given back.
    pub(super) allowed: u64,
    rest: Box<Rest<B>>,
}

#[derive(Debug, Default)]
struct Rest<B> {
    /// Where the search for idle keys goes on.
    hand: usize,
    /// Shared by keys that find no cell of their own.
    overflow: (u64, B),
}

impl<B> Rest<B> {
    fn overflow(&mut self) -> Cell<'_, B> {
        let (word, body) = &mut self.overflow;
        Cell { word, body }
    }
}

/// Places looked at for each new key: enough that the table stays near the number of live keys, few
/// enough that nobody waits for it.
const SEARCH: usize = 8;
/// The same when no more cells may be made.
const SEARCH_WHEN_FULL: usize = 32;

impl<B: Copy + Default> Shard<B> {
    pub(super) fn new() -> Self {
        Self {
            cells: Cells::new(),
            latest: 0,
            allowed: 0,
            rest: Box::default(),
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.cells.len()
    }

    #[inline]
    pub(super) fn take<F: Form<Body = B>>(
        &mut self,
        form: &F,
        room: &Room,
        hash: u64,
        cost: u32,
        now: u64,
    ) -> Result<u64, Option<u64>> {
        let now = self.latest.max(now);
        self.latest = now;
        let place = match self.cells.find(hash) {
            None => self.insert(form, room, hash),
            found => found,
        };
        let taken = form.take(self.cell(place), cost, now);
        if taken.is_ok() {
            self.allowed += u64::from(cost);
        }
        taken
    }

    pub(super) fn give_back<F: Form<Body = B>>(&mut self, form: &F, hash: u64, at: u64, cost: u32) {
        self.allowed -= u64::from(cost).min(self.allowed);
        // A key that was evicted since had nothing left to give back to, and then neither does the
        // overflow hold anything of that time that still counts.
        form.give_back(self.look(hash), at, cost);
    }

    /// A key's cell, or what it would start with.
    pub(super) fn look(&mut self, hash: u64) -> Cell<'_, B> {
        self.cell(self.cells.find(hash))
    }

    #[inline]
    fn cell(&mut self, place: Option<usize>) -> Cell<'_, B> {
        let own = place.and_then(|place| self.cells.get(place));
        own.unwrap_or_else(|| self.rest.overflow())
    }

    #[cold]
    fn insert<F: Form<Body = B>>(&mut self, form: &F, room: &Room, hash: u64) -> Option<usize> {
        let mut free = self.evict(form, SEARCH);
        if free == 0 && room.take() {
            free = 1;
        }
        if free == 0 {
            free = self.evict(form, SEARCH_WHEN_FULL);
        }
        room.give(free.checked_sub(1)?);
        // The key may have been among those that shared the overflow: it starts with what was
        // counted there. A little too strict for a while is right; twice the quota would not be.
        let (word, body) = match form.idle(self.rest.overflow(), self.latest) {
            true => (0, B::default()),
            false => self.rest.overflow,
        };
        Some(self.cells.insert(hash, word, body))
    }

    /// Moves the hand on and forgets the idle keys that it finds. Returns how many.
    fn evict<F: Form<Body = B>>(&mut self, form: &F, search: usize) -> usize {
        let before = self.cells.len();
        for _ in 0..search.min(self.cells.places()) {
            let i = self.rest.hand;
            let latest = self.latest;
            let idle = self.cells.get(i).map(|cell| form.idle(cell, latest));
            if idle == Some(true) {
                // Another one may have its place now.
                self.cells.remove(i);
            } else {
                let next = i + 1;
                self.rest.hand = if next < self.cells.places() { next } else { 0 };
            }
        }
        before - self.cells.len()
    }
}

/// How many more cells may be made, in all shards together.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Room {
    pub(super) fn new(cells: usize) -> Self {
        Self(AtomicUsize::new(cells))
    }

    fn take(&self) -> bool {
        self.0
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn give(&self, cells: usize) {
        if cells > 0 {
            self.0.fetch_add(cells, Relaxed);
        }
    }
}
