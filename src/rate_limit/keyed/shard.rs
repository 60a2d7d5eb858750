//! A part of the keys: an index, the cells, and the hand that finds idle ones.

use super::cell::Cells;
use hashbrown::HashTable;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Debug)]
pub(super) struct Shard {
    index: HashTable<u32>,
    slab: Slab,
    /// Where the search for idle keys goes on.
    hand: usize,
    /// The latest time seen: a key that was forgotten as idle stays so if the clock goes backwards.
    latest: u64,
    /// Admitted since the beginning, less what was given back.
    pub(super) allowed: u64,
    /// Shared by keys that find no cell of their own.
    overflow: Box<[u64]>,
}

/// Cells looked at for each new key: enough that the table stays near the number of live keys, few
/// enough that nobody waits for it.
const SEARCH: usize = 4;
/// The same when no more cells may be made.
const SEARCH_WHEN_FULL: usize = 16;

impl Shard {
    pub(super) fn new(cells: &Cells) -> Self {
        let words = cells.words();
        Self {
            index: HashTable::new(),
            slab: Slab {
                chunks: Vec::new(),
                words,
                len: 0,
            },
            hand: 0,
            latest: 0,
            allowed: 0,
            overflow: vec![0; words - 1].into(),
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(super) fn take(
        &mut self,
        cells: &Cells,
        room: &Room,
        hash: u64,
        cost: u32,
        now: u64,
    ) -> Result<u64, Option<u64>> {
        self.latest = self.latest.max(now);
        let now = self.latest;
        let cell = match self.find(hash) {
            Some(i) => self.slab.cell(i),
            None => match self.insert(cells, room, hash) {
                Some(i) => self.slab.cell(i),
                None => &mut self.overflow,
            },
        };
        let taken = cells.take(cell, cost, now);
        if taken.is_ok() {
            self.allowed += u64::from(cost);
        }
        taken
    }

    pub(super) fn give_back(&mut self, cells: &Cells, hash: u64, at: u64, cost: u32) {
        self.allowed -= u64::from(cost).min(self.allowed);
        // A key that was evicted since had nothing left to give back to, and then neither does the
        // overflow hold anything of that time that still counts.
        let cell = match self.find(hash) {
            Some(i) => self.slab.cell(i),
            None => &mut self.overflow,
        };
        cells.give_back(cell, at, cost);
    }

    /// Looks at a key's cell, or at what it would start with.
    pub(super) fn look<T>(&mut self, hash: u64, look: impl FnOnce(&mut [u64]) -> T) -> T {
        match self.find(hash) {
            Some(i) => look(self.slab.cell(i)),
            None => look(&mut self.overflow),
        }
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<usize> {
        let i = self.index.find(hash, |&i| self.slab.hash(i) == hash)?;
        Some(*i as usize)
    }

    #[cold]
    fn insert(&mut self, cells: &Cells, room: &Room, hash: u64) -> Option<usize> {
        let i = match self.evict(cells, SEARCH) {
            Some(i) => i,
            None if room.take() => self.slab.push(),
            None => self.evict(cells, SEARCH_WHEN_FULL)?,
        };
        let cell = self.slab.cell(i);
        // The key may have been among those that shared the overflow: it starts with what was
        // counted there. A little too strict for a while is right; twice the quota would not be.
        if cells.idle(&self.overflow, self.latest) {
            cell.fill(0);
        } else {
            cell.copy_from_slice(&self.overflow);
        }
        self.slab.set_hash(i, hash);
        let slab = &self.slab;
        self.index.insert_unique(hash, i as u32, |&i| slab.hash(i));
        Some(i)
    }

    /// Moves the hand on to an idle key and forgets it.
    fn evict(&mut self, cells: &Cells, search: usize) -> Option<usize> {
        for _ in 0..search.min(self.slab.len) {
            let i = self.hand;
            self.hand = if i + 1 < self.slab.len { i + 1 } else { 0 };
            if cells.idle(self.slab.cell(i), self.latest) {
                let hash = self.slab.hash(i as u32);
                if let Ok(entry) = self.index.find_entry(hash, |&j| j as usize == i) {
                    entry.remove();
                }
                return Some(i);
            }
        }
        None
    }
}

/// Cells in chunks, so that growth neither moves nor doubles them.
#[derive(Debug)]
struct Slab {
    chunks: Vec<Box<[u64]>>,
    words: usize,
    len: usize,
}

const CHUNK: usize = 32;

impl Slab {
    fn push(&mut self) -> usize {
        if self.len == self.chunks.len() * CHUNK {
            self.chunks.push(vec![0; CHUNK * self.words].into());
        }
        self.len += 1;
        self.len - 1
    }

    #[inline]
    fn hash(&self, i: u32) -> u64 {
        let i = i as usize;
        self.chunks[i / CHUNK][i % CHUNK * self.words]
    }

    fn set_hash(&mut self, i: usize, hash: u64) {
        self.chunks[i / CHUNK][i % CHUNK * self.words] = hash;
    }

    /// What is kept of the key, without its hash.
    #[inline]
    fn cell(&mut self, i: usize) -> &mut [u64] {
        let start = i % CHUNK * self.words;
        &mut self.chunks[i / CHUNK][start + 1..start + self.words]
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
}
