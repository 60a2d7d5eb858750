//! Pointers to what is asked for most, a table of them for each lane of threads.
//!
//! Looking an answer up in the store takes a lock that all threads share: with two threads on one
//! key, that lock is most of what a hit costs. So a thread that asks for the same thing again finds
//! it in a table of its lane, whose lock nobody else wants.
//!
//! A table must not point to what the store no longer has: an answer that was invalidated is never
//! given again, and what was evicted is to be let go of. So everything that is kept knows which
//! lanes point to it. A lane says so before it does, under its lock; whoever removes something from
//! the store leaves behind that it is gone, and then takes that knowledge and has the lanes forget
//! it. A lane that comes in between, or later, finds it gone.
//!
//! That it is gone is said under the store's lock; but forgetting waits for the lanes' locks, under
//! which answers are copied, and a copy may ask the store for something else: so the store's lock
//! must not be held then.

use super::sync::{AcqRel, Acquire, Arc, AtomicU64, Mutex, MutexGuard, Padded};
use crate::Time;
use std::sync::{PoisonError, TryLockError};

/// A bit for each lane, and one that says that it is not in the store any more.
const LANES: usize = 32;
const GONE: u64 = 1 << 63;

/// How many hits here the store does not hear of, and for how long, in nanoseconds. If it never
/// did, it would take what is asked for most for what is never asked for, and evict it.
const QUIET_HITS: u8 = 64;
const QUIET_TIME: u64 = 1_000_000;

/// Something that is kept, and the lanes that point to it.
pub(super) struct Marked<T> {
    pub(super) kept: T,
    lanes: AtomicU64,
}

impl<T> Marked<T> {
    pub(super) fn new(kept: T) -> Arc<Self> {
        let lanes = AtomicU64::new(0);
        Arc::new(Self { kept, lanes })
    }

    /// It has been removed from the store: nobody finds it at hand any more. The lanes are to
    /// [forget](Near::forget) it once no lock of the store is held.
    pub(super) fn leave(&self) {
        self.lanes.fetch_or(GONE, AcqRel);
    }

    #[inline]
    fn has_left(&self) -> bool {
        self.lanes.load(Acquire) & GONE != 0
    }
}

/// The lanes' tables.
pub(super) struct Near<T> {
    lanes: Box<[Padded<Mutex<Table<T>>>]>,
    places: usize,
}

/// Of as many places as all others; of none as long as it is not used.
type Table<T> = Vec<HotPlace<T>>;

struct HotPlace<T> {
    held: Option<(u64, Arc<Marked<T>>)>,
    /// What was last asked for in vain. If nothing else is, it gets the place the next time: what
    /// is asked for just once does not drive out what is asked for again and again.
    wanted: u64,
    /// When the store last heard of it, and the hits since then.
    told: Time,
    hits: u8,
}

/// What came of looking for something.
pub(super) enum Looked<R> {
    /// It was here.
    Here(R),
    /// The store is to be asked.
    Ask,
    /// The store is to be asked, and its answer worth being [pointed to](Near::point).
    Want,
}

impl<T> Near<T> {
    /// Tables of at most this many places, for this many lanes: both are powers of two.
    pub(super) fn new(lanes: usize, places: usize) -> Self {
        Self {
            lanes: (0..lanes.min(LANES))
                .map(|_| Padded(Mutex::new(Vec::new())))
                .collect(),
            places,
        }
    }

    fn lane(&self, slot: usize) -> usize {
        slot & (self.lanes.len() - 1)
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.places - 1)
    }

    /// Reads what has this hash and is what is looked for, if it is here.
    #[inline]
    pub(super) fn look<R>(
        &self,
        slot: usize,
        hash: u64,
        now: Time,
        is: impl FnOnce(&T) -> bool,
        read: impl FnOnce(&T) -> R,
    ) -> Looked<R> {
        let mut table = match self.lanes[self.lane(slot)].0.try_lock() {
            Ok(table) => table,
            Err(TryLockError::Poisoned(table)) => table.into_inner(),
            // A thread that shares the lane. Waiting for it costs more than asking the store.
            Err(TryLockError::WouldBlock) => return Looked::Ask,
        };
        let Some(place) = table.get_mut(self.place(hash)) else {
            return Looked::Want;
        };
        match &place.held {
            Some((_, marked)) if marked.has_left() => Looked::Ask,
            Some((held, marked)) if *held == hash && is(&marked.kept) => {
                place.wanted = !hash;
                place.hits += 1;
                let quiet = now.as_nanos().saturating_sub(place.told.as_nanos());
                if place.hits >= QUIET_HITS || quiet >= QUIET_TIME {
                    (place.told, place.hits) = (now, 0);
                    return Looked::Ask;
                }
                Looked::Here(read(&marked.kept))
            }
            _ if place.wanted == hash => Looked::Want,
            _ => {
                place.wanted = hash;
                Looked::Ask
            }
        }
    }

    /// Points to what the store has, unless it has been removed from it meanwhile.
    #[cold]
    pub(super) fn point(&self, slot: usize, hash: u64, now: Time, marked: Arc<Marked<T>>) {
        let lane = self.lane(slot);
        let mut table = lock(&self.lanes[lane].0);
        if table.is_empty() {
            table.extend((0..self.places).map(|_| HotPlace {
                held: None,
                wanted: !hash,
                told: now,
                hits: 0,
            }));
        }
        let mut old = None;
        let place = self.place(hash);
        if marked.lanes.fetch_or(1 << lane, AcqRel) & GONE == 0
            && let Some(place) = table.get_mut(place)
        {
            old = place.held.replace((hash, marked));
            (place.told, place.hits) = (now, 0);
        }
        // What is dropped may run the application's code, so not under the lock.
        drop(table);
        drop(old);
    }

    /// Forgets what has been removed from the store. When this returns, no lane points to it, and
    /// none will.
    pub(super) fn forget(&self, hash: u64, marked: &Arc<Marked<T>>) {
        let lanes = marked.lanes.fetch_or(GONE, AcqRel) & !GONE;
        for (lane, table) in self.lanes.iter().enumerate() {
            if lanes & (1 << lane) == 0 {
                continue;
            }
            let mut table = lock(&table.0);
            let old = match table.get_mut(self.place(hash)) {
                Some(HotPlace { held, .. }) => held.take_if(|(_, held)| Arc::ptr_eq(held, marked)),
                None => None,
            };
            drop(table);
            drop(old);
        }
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
