//! What is kept in memory of what is in Redis, and when it may be answered with.
//!
//! An entry that was in Redis, or was put there, when it was asked for at some moment is right
//! until somebody invalidates it. So it may be answered with only as long as an invalidation would
//! have been heard of, and it is kept only if none was since before it was asked for:
//!
//! - **epoch**: counts the connections that invalidations come over. While none stands it is even,
//!   and nothing is kept. What was kept under another epoch is never the answer.
//! - **until**: one heartbeat after the last question was *sent* that was answered on that
//!   connection. Redis answers in order: what was invalidated before it took that question was
//!   heard of before its answer.
//! - **marks**: how often keys and tags were invalidated, as known here. A mark is taken before the
//!   entry is asked for, and the entry is kept only if the key's count is still the same; the tag's
//!   count is compared whenever it is looked at, because a tag's entries are not listed. Several
//!   keys or tags share a count, which costs an entry now and then, and never an invalidation.

use super::keys::Invalidated;
use crate::{
    cache::{Entry, EntryKey, FreshnessState, KeyRef},
    clock::{Now, Time},
};
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, Weighter, sync::Cache};
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

/// How many counts there are of keys. They are compared only while an entry is on its way.
const KEYS: usize = 256;

/// How many counts there are of tags. Those that share one are dropped together.
const TAGS: usize = 4096;

/// What an entry weighs besides its answer and its texts: its place, its times.
const OVERHEAD: u64 = 160;

pub(super) struct Tier<V> {
    entries: Cache<EntryKey, TierEntry<V>, TierWeights, DefaultHashBuilder, TierLifecycle>,
    weigher: Option<Weigher<V>>,
    epoch: AtomicU64,
    /// A [`Time`], or 0.
    until: AtomicU64,
    /// The run of Redis that invalidations are heard from.
    run: RwLock<Option<Arc<str>>>,
    keys: Box<[Mutex<u64>]>,
    tags: Box<[AtomicU64]>,
    hasher: RandomState,
    max_age: Duration,
}

#[derive(Clone)]
struct TierEntry<V> {
    entry: Entry<V>,
    mark: Mark,
    weight: u64,
}

/// What was known before an entry was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    epoch: u64,
    key: u64,
    tag: u64,
}

/// What an answer weighs; one, if it is not said.
pub(super) type Weigher<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

/// What an entry weighed when it was put here. An answer may grow, but what is taken off must be
/// what was put on.
#[derive(Clone, Copy)]
struct TierWeights;

impl<V> Weighter<EntryKey, TierEntry<V>> for TierWeights {
    fn weight(&self, _: &EntryKey, kept: &TierEntry<V>) -> u64 {
        kept.weight
    }
}

/// A collector of what is evicted: it is dropped when no lock is held any more, as that may run the
/// application's code.
#[derive(Clone, Copy)]
struct TierLifecycle;

impl<V> Lifecycle<EntryKey, TierEntry<V>> for TierLifecycle {
    type RequestState = Vec<TierEntry<V>>;

    fn on_evict(&self, evicted: &mut Vec<TierEntry<V>>, _: EntryKey, kept: TierEntry<V>) {
        evicted.push(kept);
    }
}

impl Equivalent<EntryKey> for KeyRef<'_> {
    fn equivalent(&self, key: &EntryKey) -> bool {
        *self == key.as_ref()
    }
}

impl<V: Clone> Tier<V> {
    pub(super) fn new(capacity: usize, weigher: Option<Weigher<V>>, max_age: Duration) -> Self {
        // How many entries there will be is a guess, and only sizes the index.
        let guess = match &weigher {
            Some(_) => capacity / 1024,
            None => capacity,
        };
        let guess = guess.clamp(16, 1 << 20);
        Self {
            entries: Cache::with(
                guess,
                capacity as u64,
                TierWeights,
                DefaultHashBuilder::default(),
                TierLifecycle,
            ),
            weigher,
            epoch: AtomicU64::new(0),
            until: AtomicU64::new(0),
            run: RwLock::new(None),
            keys: (0..KEYS).map(|_| Mutex::default()).collect(),
            tags: (0..TAGS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            max_age,
        }
    }

    /// Returns the entry, if it is certain enough to be right.
    pub(super) fn peek(&self, key: KeyRef<'_>, now: &Now) -> Option<Entry<V>> {
        // Read before the entry: what was invalidated before the question that `until` stems from
        // is gone from what is seen after it.
        let until = self.until.load(Acquire);
        if until == 0 || now.get().0 >= until {
            return None;
        }
        let TierEntry { entry, mark, .. } = self.entries.get(&key)?;
        let now = now.get();
        let right = mark.epoch == self.epoch.load(Acquire)
            && mark.tag == self.tag(key.tag())
            && now.since(entry.read) < self.max_age
            && entry.state_at(now) == FreshnessState::Fresh;
        right.then_some(entry)
    }

    /// Returns what is known of the key before its entry is asked for in Redis.
    pub(super) fn mark(&self, key: &EntryKey) -> Mark {
        Mark {
            epoch: self.epoch.load(Acquire),
            key: *self.key(key.as_ref()),
            tag: self.tag(key.tag()),
        }
    }

    /// Keeps an entry of this run of Redis, if nothing that was heard since the mark speaks
    /// against it.
    pub(super) fn keep(
        &self,
        key: &EntryKey,
        mark: Mark,
        run: &str,
        entry: impl FnOnce() -> Entry<V>,
    ) {
        if !self.listens() || self.run().as_deref() != Some(run) {
            return;
        }
        let entry = entry();
        let weight = self.weight_of(key, &entry.value);
        let mut kept = Some(TierEntry {
            entry,
            mark,
            weight,
        });
        let mut evicted = Vec::new();
        // Held until it is in: an invalidation comes before or after.
        let count = self.key(key.as_ref());
        if *count == mark.key
            && self.epoch.load(Acquire) == mark.epoch
            && mark.epoch % 2 == 1
            && let Some(kept) = kept.take()
        {
            let (entries, key) = (&self.entries, key.clone());
            entries.insert_with_lifecycle(key, kept, &mut evicted);
        }
    }

    fn weight_of(&self, key: &EntryKey, value: &V) -> u64 {
        let Some(weigh) = &self.weigher else { return 1 };
        let texts = key.key().len() + key.tag().map_or(0, str::len);
        let weight = weigh(value).saturating_add(texts);
        (weight as u64).saturating_add(OVERHEAD)
    }

    /// Whether an entry may be answered with, or kept, at all.
    pub(super) fn listens(&self) -> bool {
        let until = self.until.load(Acquire);
        until != 0 && Time::now().0 < until
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Drops what somebody invalidated.
    pub(super) fn forget(&self, what: Invalidated<'_>) {
        match what {
            Invalidated::Entry(key) => {
                let mut count = self.key(key);
                *count += 1;
                let old = self.entries.remove(&key);
                drop(count);
                drop(old);
            }
            Invalidated::Tag(tag) => {
                self.tags[self.place(tag, TAGS)].fetch_add(1, AcqRel);
            }
        }
    }

    /// Drops everything.
    pub(super) fn forget_all(&self) {
        for count in &self.keys {
            *lock(count) += 1;
        }
        for tag in &self.tags {
            tag.fetch_add(1, AcqRel);
        }
        self.empty();
    }

    // Silent => listening
    /// Begins to believe what this run of Redis said: its invalidations are heard of from now on.
    /// Returns the epoch.
    pub(super) fn begin(&self, run: &Arc<str>) -> u64 {
        let epoch = self.epoch.load(Acquire);
        // The next odd one.
        let epoch = epoch + 1 + epoch % 2;
        debug_assert!(epoch % 2 == 1, "{epoch} is no connection's");
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(run));
        self.epoch.store(epoch, Release);
        self.empty();
        epoch
    }

    /// Lets memory answer until then. To be called while listening.
    pub(super) fn extend(&self, until: Time) {
        self.until.store(until.0, Release);
    }

    // Listening => silent
    /// Ends what this epoch's connection allowed, as it is lost. Nothing happens if it is another
    /// one's by now.
    pub(super) fn end(&self, epoch: u64) {
        let next = epoch + 1;
        // An even one is no connection's.
        if epoch % 2 == 1
            && self
                .epoch
                .compare_exchange(epoch, next, AcqRel, Acquire)
                .is_ok()
        {
            self.until.store(0, Release);
            self.empty();
        }
    }

    fn empty(&self) {
        let _all: Vec<_> = self.entries.drain().collect();
    }

    fn run(&self) -> Option<Arc<str>> {
        self.run
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn key(&self, key: KeyRef<'_>) -> MutexGuard<'_, u64> {
        lock(&self.keys[self.place(key, KEYS)])
    }

    fn tag(&self, tag: Option<&str>) -> u64 {
        tag.map_or(0, |tag| self.tags[self.place(tag, TAGS)].load(Acquire))
    }

    fn place(&self, of: impl Hash, places: usize) -> usize {
        // `places` is a power of two.
        self.hasher.hash_one(of) as usize & (places - 1)
    }
}

fn lock(count: &Mutex<u64>) -> MutexGuard<'_, u64> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
