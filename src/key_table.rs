//! What every table of keys is made of: shards under locks of their own, and a clock hand that
//! finds whom to forget.
//!
//! The tables themselves differ; ARCHITECTURE.md says why.

use crate::shared::{Padded, lock};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard},
};

/// The shards of a table of keys, each under a lock of its own.
///
/// # Invariants
/// 1. The number of shards is a power of two, so that a key's own is found with a mask.
/// 2. A key's shard depends on the bits of its hash from the 40th on, and on as few of them as
///    there are shards for: what is inside a shard finds its slots by other bits.
#[derive(Debug)]
pub(crate) struct KeyShards<S>(Box<[Padded<Mutex<S>>]>);

impl<S: Default> KeyShards<S> {
    /// Makes that many shards, which must be a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        Self::with(shards, S::default)
    }
}

impl<S> KeyShards<S> {
    /// Makes that many shards, which must be a power of two.
    pub(crate) fn with(shards: usize, shard: impl Fn() -> S) -> Self {
        debug_assert!(shards.is_power_of_two(), "{shards} shards");
        let shard = |_| Padded(Mutex::new(shard()));
        Self((0..shards).map(shard).collect())
    }

    /// Locks the shard that keeps the key with this hash, if anyone does.
    #[inline]
    pub(crate) fn lock(&self, hash: u64) -> MutexGuard<'_, S> {
        let i = (hash >> 40) as usize & (self.0.len() - 1);
        lock(&self.0[i].0)
    }

    /// Locks one shard after the other.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = MutexGuard<'_, S>> {
        self.0.iter().map(|shard| lock(&shard.0))
    }
}

/// A hand that goes round the slots of a table and stops where it found what it looked for: so
/// every slot has its turn, and none has two before the others.
///
/// F. J. Corbató, *A Paging Experiment with the Multics System* (1968).
#[derive(Debug, Default)]
pub(crate) struct ClockHand(usize);

impl ClockHand {
    /// Returns the slot that the hand points to.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.0
    }

    /// Moves the hand on to the next of so many slots.
    #[inline]
    pub(crate) fn advance(&mut self, slots: usize) {
        let next = self.0 + 1;
        self.0 = if next < slots { next } else { 0 };
    }
}

/// A map whose keys are hashes, seeded, already.
pub(crate) type PrehashedMap<V> = HashMap<u64, V, BuildHasherDefault<IdentityHasher>>;

/// The hasher of what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write(&mut self, bytes: &[u8]) {
        // Nothing comes here; it would be a hash, if a bad one.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_always_finds_the_same_shard_and_every_shard_is_found() {
        let shards = KeyShards::<u64>::new(8);
        for hash in (0..64).map(|n| n << 39) {
            *shards.lock(hash) += 1;
            *shards.lock(hash | 0xffff) += 1;
        }
        let kept: Vec<_> = shards.lock_each().map(|shard| *shard).collect();
        assert_eq!(kept, [16; 8]);
    }

    #[test]
    fn the_hand_gives_every_slot_its_turn_in_a_table_that_grows() {
        let mut hand = ClockHand::default();
        let mut round = |slots: usize, steps: usize| {
            let steps = (0..steps).map(|_| {
                let at = hand.at();
                hand.advance(slots);
                at
            });
            steps.collect::<Vec<_>>()
        };
        assert_eq!(round(3, 5), [0, 1, 2, 0, 1]);
        assert_eq!(round(4, 3), [2, 3, 0]);
        assert_eq!(round(1, 2), [1, 0]);
    }
}
