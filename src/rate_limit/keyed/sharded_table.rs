//! All keys of one way of counting, in shards.

use super::{
    KeyLimit, KeyTotals,
    counting::Counting,
    shard::{Shard, SpareKeys},
};
use crate::{
    key_table::KeyShards,
    rate_limit::{capacity_forecast::CapacityForecast, status::RemainingQuota},
    shared::Padded,
};

#[derive(Debug)]
pub(super) struct ShardedTable<C: Counting> {
    shards: KeyShards<CountedShard<C>>,
    spare: Padded<SpareKeys>,
}

/// A part of the keys, and how they are counted: the same in all shards, but for the time that it
/// takes to change it.
#[derive(Debug)]
#[repr(C)]
struct CountedShard<C: Counting> {
    shard: Shard<C::Detail>,
    counting: C,
}

/// More than the threads that a machine runs at a time, so that few of them meet; and few enough
/// that they stay in the caches.
const SHARDS: usize = 64;

impl<C: Counting + Copy> ShardedTable<C> {
    /// `window` is how long a key counts at most, in nanoseconds.
    pub(super) fn new(counting: C, limit: KeyLimit, window: u64) -> Self {
        let KeyLimit { max_keys, overflow } = limit;
        let shard = || CountedShard {
            shard: Shard::default(),
            counting,
        };
        Self {
            shards: KeyShards::with(shards_for(max_keys), shard),
            spare: Padded(SpareKeys::new(max_keys, overflow, window)),
        }
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.take(counting, &self.spare.0, hash, cost, now)
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.give_back(counting, hash, at, cost);
    }

    pub(super) fn charge(&self, hash: u64, cost: u32, now: u64) {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.charge(counting, &self.spare.0, hash, cost, now);
    }

    pub(super) fn reset(&self, hash: u64) {
        let hash = somebodys(hash);
        let shard = &mut self.shards.lock(hash).shard;
        shard.reset(&self.spare.0, hash);
    }

    pub(super) fn refund(&self, hash: u64, cost: u32, now: u64) {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.refund(counting, hash, cost, now);
    }

    pub(super) fn remaining(&self, hash: u64, now: u64) -> RemainingQuota {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.remaining(counting, hash, now)
    }

    pub(super) fn forecast(&self, hash: u64, now: u64) -> CapacityForecast {
        let hash = somebodys(hash);
        let CountedShard { shard, counting } = &mut *self.shards.lock(hash);
        shard.forecast(counting, hash, now)
    }

    pub(super) fn quota(&self) -> u32 {
        let mut shards = self.shards.lock_each();
        shards.next().map_or(0, |shard| shard.counting.quota())
    }

    /// Counts from now on as `f` makes of how it is counted, one shard after the other.
    pub(super) fn change(&self, now: u64, f: impl Fn(C) -> C) {
        for mut locked in self.shards.lock_each() {
            let CountedShard { shard, counting } = &mut *locked;
            let before = std::mem::replace(counting, f(*counting));
            shard.adopt(counting, &before, now);
        }
    }

    /// Returns how the keys are counted.
    pub(super) fn counting(&self) -> Option<C> {
        let mut shards = self.shards.lock_each();
        shards.next().map(|shard| shard.counting)
    }

    /// Returns what the keys have done so far, together.
    pub(super) fn totals(&self) -> KeyTotals {
        let shards = self.shards.lock_each();
        shards.fold(KeyTotals::default(), |mut totals, counted| {
            let shard = &counted.shard;
            totals.keys += shard.keys();
            totals.admitted_total += shard.admitted_total;
            totals.overflowed_total += shard.overflowed_total();
            totals
        })
    }
}

/// Returns how many shards there are for so many keys, a power of two.
pub(super) fn shards_for(max_keys: usize) -> usize {
    // A shard of a few slots would overflow while others are empty.
    let shards = (max_keys / 64).clamp(1, SHARDS);
    shards.next_power_of_two()
}

/// Returns a hash that is not the one of slots that are nobody's.
#[inline]
pub(super) fn somebodys(hash: u64) -> u64 {
    hash.max(1)
}
