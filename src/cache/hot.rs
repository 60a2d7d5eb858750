//! Pointers to what is asked for most, a table of them for each stripe of threads.
//!
//! Looking an answer up in the store takes a lock that all threads share: with two threads on one
//! key, that lock is most of what a hit costs. So a thread that asks for the same thing again finds
//! it in a table of its stripe, whose lock nobody else wants.
//!
//! A table must not point to what the store no longer has: an answer that was invalidated is never
//! given again, and what was evicted is to be let go of. [`HotTables`] says how that is kept.

use super::sync::{AcqRel, Acquire, Arc, AtomicU64, Mutex, MutexGuard, Padded};
use crate::Time;
use std::sync::{PoisonError, TryLockError};

/// How many stripes there are at most: each has a bit in [`Tracked::stripes`].
const STRIPES: usize = 32;

/// The bit that says that the store does not have it any more.
const REMOVED: u64 = 1 << 63;

/// How many hits in a row a table answers itself. Then the store is asked, and so hears of one hit:
/// if it never heard of any, it would take what is asked for most for what is never asked for, and
/// evict it.
const QUIET_HITS: u8 = 64;

/// For how long a table answers itself, in nanoseconds, if there are fewer hits than that.
const QUIET_TIME: u64 = 1_000_000;

/// Something that the store keeps, and which stripes' tables point to it.
pub(super) struct Tracked<T> {
    pub(super) kept: T,
    /// A bit for each stripe, and [`REMOVED`].
    stripes: AtomicU64,
}

impl<T> Tracked<T> {
    pub(super) fn new(kept: T) -> Arc<Self> {
        let stripes = AtomicU64::new(0);
        Arc::new(Self { kept, stripes })
    }

    /// Says that the store does not have it any more: no table answers with it from now on. They
    /// are to [forget](HotTables::forget) it once no lock of the store is held.
    pub(super) fn mark_removed(&self) {
        self.stripes.fetch_or(REMOVED, AcqRel);
    }

    #[inline]
    pub(super) fn is_removed(&self) -> bool {
        self.stripes.load(Acquire) & REMOVED != 0
    }
}

/// A table for each stripe of threads, of pointers to what its threads ask for most.
///
/// # Invariants
/// 1. A table points to something only if its stripe's bit is set in [`Tracked::stripes`]. The bit
///    is set first, under the table's lock.
/// 2. No bit is ever cleared, so what was removed from the store stays so.
/// 3. What was removed is not pointed to again: whoever sets a bit sees in the same step whether
///    [`REMOVED`] is set, and then does not point.
/// 4. So when [`forget`](Self::forget) returns, no table points to it. It sets `REMOVED` and reads
///    the bits in one step, and waits for the lock of each table whose bit is set: which points by
///    then, or will not.
/// 5. No table's lock is waited for under a lock of the store: answers are copied under a table's
///    lock, and a copy may ask the store for something else.
/// 6. Nothing is dropped under a table's lock: that may run the application's code.
pub(super) struct HotTables<T> {
    stripes: Box<[Padded<Mutex<Table<T>>>]>,
    slots: usize,
}

/// As many slots as all other tables have; none as long as it is not used.
type Table<T> = Vec<HotSlot<T>>;

struct HotSlot<T> {
    /// What the slot points to, and its hash.
    held: Option<(u64, Arc<Tracked<T>>)>,
    /// The hash that was last looked for here and not found. Looked for twice in a row, it gets the
    /// slot: what is asked for just once does not drive out what is asked for again and again.
    candidate: u64,
    /// When the store last heard of a hit.
    told: Time,
    /// How many hits it has not heard of since then.
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
    /// Makes tables of this many slots, for this many stripes: both are powers of two.
    pub(super) fn new(stripes: usize, slots: usize) -> Self {
        debug_assert!(stripes.is_power_of_two(), "{stripes} stripes");
        debug_assert!(slots.is_power_of_two(), "{slots} slots");
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
