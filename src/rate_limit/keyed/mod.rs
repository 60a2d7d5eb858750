//! A limit for each key, in bounded memory.

mod cell;
mod counters;
mod shard;
mod times;

pub(super) use cell::Cells;

use super::{forecast::Supply, status::Level};
use crate::shared::Padded;
use shard::{Room, Shard};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Keyed {
    cells: Cells,
    room: Padded<Room>,
    shards: Box<[Padded<Mutex<Shard>>]>,
}

/// More than the threads that a machine runs at a time, so that few of them meet.
const SHARDS: usize = 64;

impl Keyed {
    pub(super) fn new(cells: Cells, max_keys: usize) -> Self {
        // A shard of a few cells would overflow while others are empty.
        let shards = (max_keys / 64).clamp(1, SHARDS);
        let shards = shards.next_power_of_two();
        Self {
            room: Padded(Room::new(max_keys)),
            shards: (0..shards)
                .map(|_| Padded(Mutex::new(Shard::new(&cells))))
                .collect(),
            cells,
        }
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        if !self.cells.fits(cost) {
            return Err(None);
        }
        self.shard(hash)
            .take(&self.cells, &self.room.0, hash, cost, now)
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        self.shard(hash).give_back(&self.cells, hash, at, cost);
    }

    pub(super) fn level(&self, hash: u64, now: u64) -> Level {
        self.shard(hash)
            .look(hash, |cell| self.cells.level(cell, now))
    }

    pub(super) fn supply(&self, hash: u64, now: u64) -> Supply {
        self.shard(hash)
            .look(hash, |cell| self.cells.supply(cell, now))
    }

    pub(super) fn quota(&self) -> u32 {
        self.cells.quota()
    }

    /// The cost admitted so far, and the keys that are kept.
    pub(super) fn totals(&self) -> (u64, usize) {
        let shards = self.shards.iter().map(|shard| lock(&shard.0));
        shards.fold((0, 0), |(allowed, keys), shard| {
            (allowed + shard.allowed, keys + shard.keys())
        })
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Bits that the index uses neither for its buckets nor for its tags.
        let i = (hash >> 40) as usize & (self.shards.len() - 1);
        lock(&self.shards[i].0)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
