//! All keys of one way of counting, in shards.

use super::{
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
    counting: C,
    shards: KeyShards<Shard<C::Detail>>,
    spare: Padded<SpareKeys>,
}

/// More than the threads that a machine runs at a time, so that few of them meet; and few enough
/// that they stay in the caches.
const SHARDS: usize = 64;

impl<C: Counting> ShardedTable<C> {
    pub(super) fn new(counting: C, max_keys: usize) -> Self {
        // A shard of a few slots would overflow while others are empty.
        let shards = (max_keys / 64).clamp(1, SHARDS);
        Self {
            counting,
            shards: KeyShards::new(shards.next_power_of_two()),
            spare: Padded(SpareKeys::new(max_keys)),
        }
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        if !self.counting.fits(cost) {
            return Err(None);
        }
        let hash = somebodys(hash);
        let mut shard = self.shards.lock(hash);
        shard.take(&self.counting, &self.spare.0, hash, cost, now)
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        let hash = somebodys(hash);
        let mut shard = self.shards.lock(hash);
        shard.give_back(&self.counting, hash, at, cost);
    }

    pub(super) fn remaining(&self, hash: u64, now: u64) -> RemainingQuota {
        let hash = somebodys(hash);
        let mut shard = self.shards.lock(hash);
        self.counting.remaining(shard.look(hash), now)
    }

    pub(super) fn forecast(&self, hash: u64, now: u64) -> CapacityForecast {
        let hash = somebodys(hash);
        let mut shard = self.shards.lock(hash);
        self.counting.forecast(shard.look(hash), now)
    }

    pub(super) fn quota(&self) -> u32 {
        self.counting.quota()
    }

    /// Returns the cost admitted so far, and the keys that are kept.
    pub(super) fn totals(&self) -> (u64, usize) {
        let shards = self.shards.lock_each();
        shards.fold((0, 0), |(admitted, keys), shard| {
            (admitted + shard.admitted_total, keys + shard.keys())
        })
    }
}

/// Returns a hash that is not the one of slots that are nobody's.
#[inline]
fn somebodys(hash: u64) -> u64 {
    hash.max(1)
}
