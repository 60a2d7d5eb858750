//! A bounded map from keys to breakers.
//!
//! When it is full somebody has to go for every new key. A clock hand chooses: a breaker that was
//! used since the hand last passed is spared for a round, and one that is open, or has calls
//! running, for as long as there is a better choice.

use super::{
    breaker::Breaker,
    config::Config,
    phase::Phase,
    snapshot::{Snapshot, State},
};
use crate::{
    clock::Time,
    key::KeyHash,
    key_table::{ClockHand, KeyShards, PrehashedMap},
    shared::stripes,
};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Map {
    shards: KeyShards<Shard>,
    /// Breakers in one shard, at most.
    limit: usize,
}

/// A part of the breakers. A new one takes the place of the one that goes for it, where the hand
/// has just been: so it has a whole round to be used again.
///
/// # Invariants
/// 1. `index` has the place in `ring` of every breaker, and nothing else.
/// 2. There are no more than the limit, and nobody goes before there are as many.
#[derive(Debug, Default)]
struct Shard {
    index: PrehashedMap<usize>,
    ring: Vec<KeyedEntry>,
    hand: ClockHand,
    evicted: KeyedTotals,
}

#[derive(Debug)]
struct KeyedEntry {
    hash: u64,
    breaker: Arc<Breaker>,
    /// Whether it was used since the hand last passed.
    used: bool,
}

/// Totals of breakers, which those that are evicted leave behind, so that no total ever falls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyedTotals {
    pub(super) evicted: u64,
    /// Those of them that were not closed.
    pub(super) evicted_open: u64,
    pub(super) rejected: u64,
    pub(super) would_reject: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) slow_calls: u64,
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
            shards: KeyShards::new(shards),
        }
    }

    /// Returns the key's breaker, if there is one.
    pub(super) fn find(&self, key: KeyHash) -> Option<Arc<Breaker>> {
        let shard = self.shards.lock(key.0);
        let entry = shard.ring.get(*shard.index.get(&key.0)?);
        debug_assert!(entry.is_some(), "the index leads out of the ring");
        Some(Arc::clone(&entry?.breaker))
    }

    /// Returns the key's breaker, a new one if there is none.
    pub(super) fn obtain(
        &self,
        key: KeyHash,
        cfg: &Arc<Config>,
        now: impl Fn() -> Time,
    ) -> Arc<Breaker> {
        let mut shard = self.shards.lock(key.0);
        let shard = &mut *shard;
        let at = shard.index.get(&key.0);
        if let Some(entry) = at.and_then(|at| shard.ring.get_mut(*at)) {
            debug_assert_eq!(entry.hash, key.0, "the index leads to another key");
            if !entry.used {
                entry.used = true;
            }
            return Arc::clone(&entry.breaker);
        }
        let breaker = Arc::new(Breaker::new(Arc::clone(cfg), 1));
        let entry = KeyedEntry {
            hash: key.0,
            breaker: Arc::clone(&breaker),
            used: false,
        };
        let at = if shard.ring.len() < self.limit {
            shard.ring.push(entry);
            shard.ring.len() - 1
        } else {
            let at = shard.victim(now());
            if let Some(old) = shard.ring.get_mut(at) {
                let old = std::mem::replace(old, entry);
                shard.index.remove(&old.hash);
                shard.evicted.add_evicted(&old.breaker);
            }
            at
        };
        shard.index.insert(key.0, at);
        debug_assert_eq!(shard.index.len(), shard.ring.len());
        breaker
    }

    /// Looks at every breaker, and returns all their totals.
    pub(super) fn each(&self, now: Time, mut look: impl FnMut(&Snapshot)) -> KeyedTotals {
        let mut totals = KeyedTotals::default();
        for shard in self.shards.lock_each() {
            totals.merge(shard.evicted);
            for entry in &shard.ring {
                let one = entry.breaker.snapshot(now);
                totals.add(&one);
                look(&one);
            }
        }
        totals
    }
}

/// At how many breakers the hand looks for a new key, so that it costs microseconds even if nearly
/// all are open.
const LOOKS: usize = 128;

impl Shard {
    /// Returns whom to forget: the hand goes on and takes the first one that is closed, has no call
    /// running and was not used since it last passed. If there is none among those it looks at, it
    /// takes the best of them.
    fn victim(&mut self, now: Time) -> usize {
        let len = self.ring.len();
        let mut best = ((u64::MAX, true), self.hand.at());
        // A second round meets those whose mark the first has taken away.
        for _ in 0..LOOKS.min(2 * len) {
            let at = self.hand.at();
            self.hand.advance(len);
            let Some(entry) = self.ring.get_mut(at) else {
                debug_assert!(false, "the hand points to {at} of {len}");
                break;
            };
            let used = std::mem::take(&mut entry.used);
            let cost = (entry.eviction_cost(now), used);
            if cost == (0, false) {
                return at;
            }
            if cost < best.0 {
                best = (cost, at);
            }
        }
        best.1
    }
}

impl KeyedEntry {
    /// Returns how bad it is to forget this one.
    fn eviction_cost(&self, now: Time) -> u64 {
        let circuit = &self.breaker.circuit;
        match circuit.word().phase() {
            Phase::Closed | Phase::Ramp if Arc::strong_count(&self.breaker) == 1 => 0,
            Phase::Closed | Phase::Ramp => 1,
            // What an operator has said.
            Phase::ForcedOpen | Phase::ForcedClosed => u64::MAX - 1,
            // Whoever would be let in soonest.
            Phase::Open | Phase::HalfOpen => 2 + (circuit.until().0.saturating_sub(now.0) >> 2),
        }
    }
}

impl KeyedTotals {
    pub(super) fn add(&mut self, one: &Snapshot) {
        self.rejected += one.rejected_total;
        self.would_reject += one.would_reject_total;
        self.successes += one.successes_total;
        self.failures += one.failures_total;
        self.slow_calls += one.slow_calls_total;
        self.trips += one.trips_total;
    }

    fn add_evicted(&mut self, breaker: &Breaker) {
        let end = breaker.snapshot(Time(0));
        self.evicted += 1;
        self.evicted_open += u64::from(end.state != State::Closed);
        self.add(&end);
    }

    fn merge(&mut self, other: Self) {
        self.evicted += other.evicted;
        self.evicted_open += other.evicted_open;
        self.rejected += other.rejected;
        self.would_reject += other.would_reject;
        self.successes += other.successes;
        self.failures += other.failures;
        self.slow_calls += other.slow_calls;
        self.trips += other.trips;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        circuit_breaker::{time_window::BYTES, totals::CallTotals},
        shared::Padded,
    };

    #[test]
    fn a_new_key_looks_at_few_of_the_others_and_takes_the_best_of_these() {
        let cfg = Arc::new(crate::CircuitBreaker::builder("t").config());
        let open = |hash| {
            let breaker = Arc::new(Breaker::new(Arc::clone(&cfg), 1));
            breaker.force_open();
            KeyedEntry {
                hash,
                breaker,
                used: true,
            }
        };
        let mut shard = Shard {
            ring: (0..1_000).map(open).collect(),
            ..Shard::default()
        };
        let best = 40 + LOOKS;
        shard.ring[best].breaker.reset();
        for expected in [0, best, 2 * LOOKS] {
            let before = shard.hand.at();
            let victim = shard.victim(Time(0));
            assert_eq!(victim, expected);
            assert_eq!(shard.hand.at() - before, LOOKS);
        }
        // A small table is gone round twice.
        shard.ring.truncate(40);
        (shard.ring[7].used, shard.hand) = (true, ClockHand::default());
        shard.ring[7].breaker.reset();
        assert_eq!(shard.victim(Time(0)), 7);
    }

    // What the docs of `KeyedCircuitBreaker` say of memory.
    #[test]
    fn a_key_takes_no_more_than_the_docs_say() {
        let breaker = (16 + size_of::<Breaker>()).next_multiple_of(128);
        let stripe = size_of::<Padded<CallTotals>>() + BYTES;
        // The index is at least half full, a byte of control with every slot.
        let entry = 2 * size_of::<KeyedEntry>() + 2 * (size_of::<(u64, usize)>() + 1);
        assert!(
            breaker + stripe + entry <= 1_750,
            "{breaker} {stripe} {entry}"
        );
    }
}
