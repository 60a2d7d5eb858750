//! Who waits for which key, in the order of arrival.

use crate::shared::Padded;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

/// All lines of a limiter: one for each key that somebody waits for.
#[derive(Debug)]
pub(in crate::rate_limit) struct Lines(Box<[Padded<Shard>]>);

#[derive(Debug, Default)]
pub(in crate::rate_limit) struct Shard {
    /// Calls in the lines: what all arrivals look at.
    waiting: AtomicUsize,
    lines: Mutex<HashMap<u64, Line>>,
}

/// Calls that wait for one key.
#[derive(Debug, Default)]
pub(in crate::rate_limit) struct Line {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    /// What they cost together.
    pub(super) owed: u64,
    /// How many of them cost something other than 1.
    uneven: usize,
}

#[derive(Debug)]
struct Waiter {
    cost: u32,
    waker: Option<Waker>,
}

impl Lines {
    /// A power of two of shards.
    pub(in crate::rate_limit) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Padded::default()).collect())
    }

    #[inline]
    pub(in crate::rate_limit) fn of(&self, key: u64) -> &Shard {
        &self.0[key as usize & (self.0.len() - 1)].0
    }

    pub(in crate::rate_limit) fn waiting(&self) -> usize {
        self.0
            .iter()
            .map(|shard| shard.0.waiting.load(SeqCst))
            .sum()
    }
}

impl Shard {
    #[inline]
    pub(in crate::rate_limit) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
