//! All keys of one form of counting, in shards.

use super::{
    form::Form,
    shard::{Room, Shard},
};
use crate::{
    rate_limit::{forecast::Supply, status::Level},
    shared::Padded,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Table<F: Form> {
    form: F,
    shards: Box<[Locked<F::Body>]>,
    room: Padded<Room>,
}

type Locked<B> = Padded<Mutex<Shard<B>>>;

/// More than the threads that a machine runs at a time, so that few of them meet; and few enough
/// that they stay in the caches.
const SHARDS: usize = 64;

impl<F: Form> Table<F> {
    pub(super) fn new(form: F, max_keys: usize) -> Self {
        // A shard of a few cells would overflow while others are empty.
        let shards = (max_keys / 64).clamp(1, SHARDS);
        let shards = shards.next_power_of_two();
        Self {
            form,
            shards: (0..shards)
                .map(|_| Padded(Mutex::new(Shard::new())))
                .collect(),
            room: Padded(Room::new(max_keys)),
        }
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        if !self.form.fits(cost) {
            return Err(None);
        }
        let hash = taken(hash);
        self.shard(hash)
            .take(&self.form, &self.room.0, hash, cost, now)
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        let hash = taken(hash);
        self.shard(hash).give_back(&self.form, hash, at, cost);
    }

    pub(super) fn level(&self, hash: u64, now: u64) -> Level {
        let hash = taken(hash);
        self.form.level(self.shard(hash).look(hash), now)
    }

    pub(super) fn supply(&self, hash: u64, now: u64) -> Supply {
        let hash = taken(hash);
        self.form.supply(self.shard(hash).look(hash), now)
    }

    pub(super) fn quota(&self) -> u32 {
        self.form.quota()
    }

    /// The cost admitted so far, and the keys that are kept.
    pub(super) fn totals(&self) -> (u64, usize) {
        let shards = self.shards.iter().map(|shard| lock(&shard.0));
        shards.fold((0, 0), |(allowed, keys), shard| {
            (allowed + shard.allowed, keys + shard.keys())
        })
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<F::Body>> {
        // Bits of the half that a cell's home does not depend on.
        let i = (hash >> 40) as usize & (self.shards.len() - 1);
        lock(&self.shards[i].0)
    }
}

/// A hash that is not the one of places that nobody has.
#[inline]
fn taken(hash: u64) -> u64 {
    hash.max(1)
}

fn lock<B>(shard: &Mutex<Shard<B>>) -> MutexGuard<'_, Shard<B>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
