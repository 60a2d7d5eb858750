//! Pointers to what is asked for most, a table of them for each stripe of threads.
//!
//! Looking an answer up in the store takes a lock that all threads share: with two threads on one
//! key, that lock is most of what a hit costs. So a thread that asks for the same thing again finds
//! it in a table of its stripe, whose lock nobody else wants.
//!
//! A table must not point to what the store no longer has: an answer that was invalidated is never
//! given again, and what was evicted is to be let go of. So everything that is kept knows which
//! stripes point to it. A stripe says so before it does, under its lock; whoever removes something
//! from the store leaves behind that it is gone, and then takes that knowledge and has the stripes
//! forget it. A stripe that comes in between, or later, finds it gone.
//!
//! That it is gone is said under the store's lock; but forgetting waits for the stripes' locks,
//! under which answers are copied, and a copy may ask the store for something else: so the store's
//! lock must not be held then.

use super::sync::{AcqRel, Acquire, Arc, AtomicU64, Mutex, MutexGuard, Padded};
use crate::Time;
use std::sync::{PoisonError, TryLockError};

/// A bit for each stripe, and one that says that it is not in the store any more.
const STRIPES: usize = 32;
const REMOVED: u64 = 1 << 63;

/// How many hits here the store does not hear of, and for how long, in nanoseconds. If it never
/// did, it would take what is asked for most for what is never asked for, and evict it.
const QUIET_HITS: u8 = 64;
const QUIET_TIME: u64 = 1_000_000;

/// Something that is kept, and the stripes that point to it.
pub(super) struct Tracked<T> {
    pub(super) kept: T,
    stripes: AtomicU64,
}

impl<T> Tracked<T> {
    pub(super) fn new(kept: T) -> Arc<Self> {
        let stripes = AtomicU64::new(0);
        Arc::new(Self { kept, stripes })
    }

    /// It has been removed from the store: nobody finds it at hand any more. The stripes are to
    /// [forget](HotTables::forget) it once no lock of the store is held.
    pub(super) fn mark_removed(&self) {
        self.stripes.fetch_or(REMOVED, AcqRel);
    }

    #[inline]
    fn is_removed(&self) -> bool {
        self.stripes.load(Acquire) & REMOVED != 0
    }
}

/// The stripes' tables.
pub(super) struct HotTables<T> {
    stripes: Box<[Padded<Mutex<Table<T>>>]>,
    slots: usize,
}

/// Of as many slots as all others; of none as long as it is not used.
type Table<T> = Vec<HotSlot<T>>;

struct HotSlot<T> {
    held: Option<(u64, Arc<Tracked<T>>)>,
    /// What was last asked for in vain. If nothing else is, it gets the slot the next time: what
    /// is asked for just once does not drive out what is asked for again and again.
    candidate: u64,
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
    /// The store is to be asked, and its answer worth being [pointed to](HotTables::admit).
    Admit,
}

impl<T> HotTables<T> {
    /// Tables of at most this many slots, for this many stripes: both are powers of two.
    pub(super) fn new(stripes: usize, slots: usize) -> Self {
        Self {
            stripes: (0..stripes.min(STRIPES))
                .map(|_| Padded(Mutex::new(Vec::new())))
                .collect(),
            slots,
        }
    }

    fn stripe(&self, thread_index: usize) -> usize {
        thread_index & (self.stripes.len() - 1)
    }

    fn slot(&self, hash: u64) -> usize {
        hash as usize & (self.slots - 1)
    }

    /// Reads what has this hash and is what is looked for, if it is here.
    #[inline]
    pub(super) fn look<R>(
        &self,
        thread_index: usize,
        hash: u64,
        now: Time,
        is: impl FnOnce(&T) -> bool,
        read: impl FnOnce(&T) -> R,
    ) -> Looked<R> {
        let mut table = match self.stripes[self.stripe(thread_index)].0.try_lock() {
            Ok(table) => table,
            Err(TryLockError::Poisoned(table)) => table.into_inner(),
            // A thread that shares the stripe. Waiting for it costs more than asking the store.
            Err(TryLockError::WouldBlock) => return Looked::Ask,
        };
        let Some(slot) = table.get_mut(self.slot(hash)) else {
            return Looked::Admit;
        };
        match &slot.held {
            Some((_, tracked)) if tracked.is_removed() => Looked::Ask,
            Some((held, tracked)) if *held == hash && is(&tracked.kept) => {
                slot.candidate = !hash;
                slot.hits += 1;
                let quiet = now.as_nanos().saturating_sub(slot.told.as_nanos());
                if slot.hits >= QUIET_HITS || quiet >= QUIET_TIME {
                    (slot.told, slot.hits) = (now, 0);
                    return Looked::Ask;
                }
                Looked::Here(read(&tracked.kept))
            }
            _ if slot.candidate == hash => Looked::Admit,
            _ => {
                slot.candidate = hash;
                Looked::Ask
            }
        }
    }

    /// Points to what the store has, unless it has been removed from it meanwhile.
    #[cold]
    pub(super) fn admit(
        &self,
        thread_index: usize,
        hash: u64,
        now: Time,
        tracked: Arc<Tracked<T>>,
    ) {
        let stripe = self.stripe(thread_index);
        let mut table = lock(&self.stripes[stripe].0);
        if table.is_empty() {
            table.extend((0..self.slots).map(|_| HotSlot {
                held: None,
                candidate: !hash,
                told: now,
                hits: 0,
            }));
        }
        let mut old = None;
        let slot = self.slot(hash);
        if tracked.stripes.fetch_or(1 << stripe, AcqRel) & REMOVED == 0
            && let Some(slot) = table.get_mut(slot)
        {
            old = slot.held.replace((hash, tracked));
            (slot.told, slot.hits) = (now, 0);
        }
        // What is dropped may run the application's code, so not under the lock.
        drop(table);
        drop(old);
    }

    /// Forgets what has been removed from the store. When this returns, no stripe points to it, and
    /// none will.
    pub(super) fn forget(&self, hash: u64, tracked: &Arc<Tracked<T>>) {
        let stripes = tracked.stripes.fetch_or(REMOVED, AcqRel) & !REMOVED;
        for (stripe, table) in self.stripes.iter().enumerate() {
            if stripes & (1 << stripe) == 0 {
                continue;
            }
            let mut table = lock(&table.0);
            let old = match table.get_mut(self.slot(hash)) {
                Some(HotSlot { held, .. }) => held.take_if(|(_, held)| Arc::ptr_eq(held, tracked)),
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
