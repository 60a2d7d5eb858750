//! A bounded map from keys to breakers.

use super::{
    breaker::{Breaker, CLOSED, FORCED_CLOSED, FORCED_OPEN, PHASE, RAMP},
    config::Config,
};
use crate::{
    clock::Time,
    key::KeyHash,
    shared::{Padded, stripes},
};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug)]
pub(super) struct Map {
    shards: Box<[Padded<Mutex<Shard>>]>,
    /// Of one shard.
    limit: usize,
}

#[derive(Debug, Default)]
struct Shard {
    at: HashMap<u64, usize, BuildHasherDefault<PassThrough>>,
    places: Vec<Place>,
    hand: usize,
    gone: Gone,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    breaker: Arc<Breaker>,
    /// Since the hand last passed.
    used: bool,
}

/// What became of breakers that were evicted, so that no total ever falls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone {
    pub(super) evicted: u64,
    /// Those of them that were not closed.
    pub(super) evicted_open: u64,
    pub(super) rejected: u64,
    pub(super) would_reject: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
    pub(super) trips: u64,
}

impl Map {
    pub(super) fn new(max_keys: usize) -> Self {
        // Fewer shards for few keys: a shard that fills early evicts early.
        let shards = (max_keys / 64).clamp(1, 4 * stripes());
        let shards = if shards.is_power_of_two() {
            shards
        } else {
            shards.next_power_of_two() / 2
        };
        Self {
            limit: (max_keys / shards).max(1),
            shards: (0..shards).map(|_| Padded::default()).collect(),
        }
    }

    fn shard(&self, key: KeyHash) -> MutexGuard<'_, Shard> {
        // The upper bits: the map in the shard uses the lower ones (and the topmost seven).
        let index = (key.0 >> 40) as usize & (self.shards.len() - 1);
        lock(&self.shards[index].0)
    }

    pub(super) fn find(&self, key: KeyHash) -> Option<Arc<Breaker>> {
        let shard = self.shard(key);
        let place = shard.places.get(*shard.at.get(&key.0)?)?;
        Some(Arc::clone(&place.breaker))
    }

    /// The key's breaker, a new one if there is none.
    pub(super) fn obtain(
        &self,
        key: KeyHash,
        cfg: &Arc<Config>,
        now: impl Fn() -> Time,
    ) -> Arc<Breaker> {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        if let Some(place) = shard
            .at
            .get(&key.0)
            .and_then(|at| shard.places.get_mut(*at))
        {
            if !place.used {
                place.used = true;
            }
            return Arc::clone(&place.breaker);
        }
        let breaker = Arc::new(Breaker::new(Arc::clone(cfg), 1));
        let place = Place {
            hash: key.0,
            breaker: Arc::clone(&breaker),
            used: false,
        };
        let at = if shard.places.len() < self.limit {
            shard.places.push(place);
            shard.places.len() - 1
        } else {
            let at = shard.victim(now());
            if let Some(old) = shard.places.get_mut(at) {
                let old = std::mem::replace(old, place);
                shard.at.remove(&old.hash);
                shard.gone.add(&old.breaker);
            }
            at
        };
        shard.at.insert(key.0, at);
        breaker
    }

    /// Looks at every breaker, and at what the evicted ones left.
    pub(super) fn each(&self, mut look: impl FnMut(&Breaker)) -> Gone {
        let mut gone = Gone::default();
        for shard in &self.shards {
            let shard = lock(&shard.0);
            gone.merge(shard.gone);
            shard.places.iter().for_each(|place| look(&place.breaker));
        }
        gone
    }
}

impl Shard {
    /// Whom to forget: the hand goes round and takes the first one that is closed, has no call
    /// running and was not used since it last passed. If there is none it takes the best it saw.
    fn victim(&mut self, now: Time) -> usize {
        let len = self.places.len().max(1);
        let mut best = (u64::MAX, self.hand % len);
        // A second round meets those whose mark the first has taken away.
        for _ in 0..2 * len {
            let at = self.hand % len;
            self.hand = (at + 1) % len;
            let Some(place) = self.places.get_mut(at) else {
                break;
            };
            let used = std::mem::take(&mut place.used);
            let worth = place.worth(now);
            if worth == 0 && !used {
                return at;
            }
            if worth < best.0 {
                best = (worth, at);
            }
        }
        best.1
    }
}

impl Place {
    /// How bad it is to forget this one.
    fn worth(&self, now: Time) -> u64 {
        match self.breaker.word() & PHASE {
            CLOSED | RAMP if Arc::strong_count(&self.breaker) == 1 => 0,
            CLOSED | RAMP => 1,
            // What an operator has said.
            FORCED_OPEN | FORCED_CLOSED => u64::MAX - 1,
            // Open or half-open: whoever would be let in soonest.
            _ => 2 + (self.breaker.until().0.saturating_sub(now.0) >> 2),
        }
    }
}

impl Gone {
    fn add(&mut self, breaker: &Breaker) {
        let end = breaker.snapshot(Time(0));
        let closed = matches!(breaker.word() & PHASE, CLOSED | RAMP | FORCED_CLOSED);
        self.merge(Self {
            evicted: 1,
            evicted_open: u64::from(!closed),
            rejected: end.rejected,
            would_reject: end.would_reject,
            successes: end.successes_total,
            failures: end.failures_total,
            slow: end.slow_total,
            trips: end.trips,
        });
    }

    fn merge(&mut self, other: Self) {
        self.evicted += other.evicted;
        self.evicted_open += other.evicted_open;
        self.rejected += other.rejected;
        self.would_reject += other.would_reject;
        self.successes += other.successes;
        self.failures += other.failures;
        self.slow += other.slow;
        self.trips += other.trips;
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit_breaker::totals::Counters;

    // What the docs of `KeyedCircuitBreaker` say of memory.
    #[test]
    fn a_key_takes_no_more_than_the_docs_say() {
        let breaker = (16 + size_of::<Breaker>()).next_multiple_of(128);
        let shard = size_of::<Padded<Counters>>() + crate::circuit_breaker::window::SHARD_BYTES;
        // The index is at least half full, a byte of control with every slot.
        let place = 2 * size_of::<Place>() + 2 * (size_of::<(u64, usize)>() + 1);
        assert!(
            breaker + shard + place <= 1_250,
            "{breaker} {shard} {place}"
        );
    }
}
