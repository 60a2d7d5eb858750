//! Answers in this process, bounded by number or by weight.

use super::{
    freshness::{Entry, FreshnessState, Hit},
    hot::{HotTables, Looked, Tracked},
    key::{EntryKey, KeyRef},
    leases::{Leases, MemoryLease},
    memory_entry::MemoryEntry,
    prehashed::Prehashed,
    store::{AcquireOptions, Acquired, Fill, InvalidationMode, Store, StoreError},
    tags::Tags,
};
use crate::{
    InvalidConfig,
    clock::Now,
    key_table::IdentityHasher,
    shared::{stripes, thread_index},
};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use std::{
    fmt,
    hash::{BuildHasher, BuildHasherDefault},
    sync::Arc,
};

/// A store in the process's memory, bounded by the number or the weight of its answers.
///
/// When it is full, it evicts what is used least, by a policy like S3-FIFO, which a scan does not
/// spoil. A hit clones the answer, so make that cheap to clone, as `Arc<T>` and `Bytes` are. Its
/// `Clone` must not invalidate anything in this store, because it is called under a lock. Each
/// thread finds what it asks for most without a lock that others want; the rest takes a short
/// shared lock on one of many shards.
///
/// ```
/// use buttress::cache::MemoryStore;
/// use std::sync::Arc;
///
/// let ten_thousand = MemoryStore::<Arc<str>>::entries(10_000)?;
/// let mebibytes = MemoryStore::<Arc<str>>::weighed(64 << 20, |text| text.len())?;
/// # Ok::<_, buttress::InvalidConfig>(())
/// ```
//
// # Invariants
// 1. An entry is put, replaced and invalidated under the lock of its key in `leases`. (It is
//    evicted under a lock of `entries`.)
// 2. Whatever leaves `entries` is marked as removed before another can take its place, and
//    forgotten by the hot tables before the call that removed it returns. So nobody finds at hand
//    what was invalidated.
// 3. No lock is held while an answer is weighed or dropped, which may run the application's code.
//    (It may be cloned under one: the docs say so.)
pub struct MemoryStore<V> {
    entries: Entries<V>,
    hot: HotTables<MemoryEntry<V>>,
    weigh: Option<Arc<Weight<V>>>,
    hasher: DefaultHashBuilder,
    leases: Leases,
    tags: Tags,
}

type Entries<V> = Cache<
    Prehashed<EntryKey>,
    Arc<Tracked<MemoryEntry<V>>>,
    MemoryWeights,
    BuildHasherDefault<IdentityHasher>,
    MemoryLifecycle,
>;

/// What is not in the store any more, and its hash.
type Removed<V> = Vec<(u64, Arc<Tracked<MemoryEntry<V>>>)>;

type Weight<V> = dyn Fn(&V) -> usize + Send + Sync;

/// What an entry weighs besides its answer and its key: its place, its times.
const OVERHEAD: usize = 210;

/// What an entry weighed when it was put here. An answer may grow, but what is taken off must be
/// what was put on.
#[derive(Clone, Copy)]
struct MemoryWeights;

impl<V> Weighter<Prehashed<EntryKey>, Arc<Tracked<MemoryEntry<V>>>> for MemoryWeights {
    fn weight(&self, _: &Prehashed<EntryKey>, tracked: &Arc<Tracked<MemoryEntry<V>>>) -> u64 {
        tracked.kept.weight
    }
}

/// A collector of what is evicted: it is let go of when no lock is held any more.
#[derive(Clone, Copy)]
struct MemoryLifecycle;

impl<V> Lifecycle<Prehashed<EntryKey>, Arc<Tracked<MemoryEntry<V>>>> for MemoryLifecycle {
    type RequestState = Removed<V>;

    fn on_evict(
        &self,
        evicted: &mut Removed<V>,
        key: Prehashed<EntryKey>,
        tracked: Arc<Tracked<MemoryEntry<V>>>,
    ) {
        tracked.mark_removed();
        evicted.push((key.hash, tracked));
    }
}

impl<V: Clone + Send + Sync + 'static> MemoryStore<V> {
    /// Creates a store of at most this many answers, whatever their size. From 1 to 4,294,967,295.
    /// It is split into shards, each of which rounds its part up, which adds less than 2 %.
    ///
    /// # Errors
    /// If the number is out of this range.
    #[doc(alias = "max_capacity")]
    pub fn entries(entries: usize) -> Result<Self, InvalidConfig> {
        Self::new("entries", entries, entries, None)
    }

    /// Creates a store of at most this many bytes. From 1 KiB to 1 PiB.
    ///
    /// The function returns what an answer weighs, in bytes; its key and some 210 bytes for its
    /// place are added. An answer that weighs more than a few per cent of the store is not kept.
    ///
    /// # Errors
    /// If the number is out of this range.
    #[doc(alias = "max_bytes")]
    #[doc(alias = "weigher")]
    pub fn weighed(
        bytes: usize,
        weigh: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Result<Self, InvalidConfig> {
        InvalidConfig::check(
            (1 << 10..=1 << 50).contains(&bytes),
            "memory store",
            "bytes",
            bytes,
            "1 KiB to 1 PiB",
        )?;
        // How many there will be is a guess that only sizes the index.
        let guess = (bytes / 1024).clamp(16, 1 << 20);
        Self::new("bytes", bytes, guess, Some(Arc::new(weigh)))
    }

    fn new(
        field: &'static str,
        capacity: usize,
        guess: usize,
        weigh: Option<Arc<Weight<V>>>,
    ) -> Result<Self, InvalidConfig> {
        let most = if weigh.is_some() {
            1 << 50
        } else {
            u32::MAX as usize
        };
        InvalidConfig::check(
            (1..=most).contains(&capacity),
            "memory store",
            field,
            capacity,
            "1 to 4294967295",
        )?;
        let guess = guess.min(1 << 20);
        // Threads that ask for different keys rarely meet in one of many shards. But what is
        // heavier than its shard is not kept, so they must not be small.
        let least = if weigh.is_some() { 4 << 20 } else { 64 };
        let shards = (capacity / least).clamp(1, 16 * stripes());
        let weight = capacity as u64;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(guess)
            .weight_capacity(weight)
            .shards(1 << shards.ilog2())
            .build();
        let options = options
            .map_err(|_| InvalidConfig::new("memory store", field, capacity, "1 to 4294967295"))?;
        let given = BuildHasherDefault::default();
        Ok(Self {
            entries: Cache::with_options(options, MemoryWeights, given, MemoryLifecycle),
            hot: HotTables::new(stripes(), guess.next_power_of_two().min(HOT_SLOTS)),
            weigh,
            hasher: DefaultHashBuilder::default(),
            leases: Leases::default(),
            tags: Tags::default(),
        })
    }

    /// Returns how many answers are kept, stale ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no answer is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns what all answers weigh together, or how many there are if they are not weighed.
    pub fn weight(&self) -> u64 {
        self.entries.weight()
    }

    /// Removes all answers, and revokes all leases.
    pub fn clear(&self) {
        let removed = self.leases.clear(|| {
            let left = |(key, tracked): (Prehashed<EntryKey>, Arc<Tracked<_>>)| {
                tracked.mark_removed();
                (key.hash, tracked)
            };
            self.entries.drain().map(left).collect()
        });
        self.let_go(removed);
    }

    /// Lets go of what is not in the store any more. Not to be called under any lock: what is
    /// dropped may run the application's code.
    fn let_go(&self, removed: Removed<V>) {
        for (hash, tracked) in &removed {
            debug_assert!(tracked.is_removed(), "what is let go of is still at hand");
            self.hot.forget(*hash, tracked);
        }
    }

    #[inline]
    fn prehashed<'a>(&self, key: KeyRef<'a>) -> Prehashed<KeyRef<'a>> {
        let hash = self.hasher.hash_one(key);
        Prehashed { hash, key }
    }

    /// Looks in the store for what is not in the hot tables, and admits it to them if that is
    /// wanted.
    #[inline(never)]
    fn ask(
        &self,
        thread_index: usize,
        key: Prehashed<KeyRef<'_>>,
        admit: bool,
        now: &Now,
    ) -> Option<Hit<V>> {
        let tracked = self.entries.get(&key)?;
        let hit = tracked.kept.hit(now);
        if admit && hit.is_some() {
            self.hot.admit(thread_index, key.hash, now.get(), tracked);
        }
        hit
    }

    fn kept(&self, key: &EntryKey) -> Option<Entry<V>> {
        self.entries
            .get(&self.prehashed(key.as_ref()))?
            .kept
            .entry()
    }

    fn weight_of(&self, key: &EntryKey, value: &V) -> u64 {
        let Some(weigh) = &self.weigh else { return 1 };
        let key = key.key().len() + key.tag().map_or(0, str::len);
        let weight = weigh(value).saturating_add(key + OVERHEAD);
        u64::try_from(weight).unwrap_or(u64::MAX)
    }

    /// Puts an answer in the place of what was known under its key, under the key's lease. Returns
    /// whether there is room for it, and what is to be [let go of](Self::let_go).
    fn put(&self, kept: MemoryEntry<V>) -> (bool, Removed<V>) {
        let hash = self.prehashed(kept.key.as_ref()).hash;
        let key = kept.key.clone();
        let (tracked, mut removed) = (Tracked::new(kept), Vec::new());
        // Only its address: to hold on to it could mean to drop it here.
        let new = Arc::as_ptr(&tracked);
        let key = Prehashed { hash, key };
        self.entries
            .insert_with_lifecycle(key, tracked, &mut removed);
        let refused = removed.iter().any(|(_, old)| Arc::as_ptr(old) == new);
        (!refused, removed)
    }
}

impl<V: Clone + Send + Sync + 'static> Store<V> for MemoryStore<V> {
    type Lease = MemoryLease;

    #[inline]
    fn peek(&self, key: KeyRef<'_>, now: &Now) -> Option<Hit<V>> {
        let (hash, thread_index) = (self.hasher.hash_one(key), thread_index());
        let is = |kept: &MemoryEntry<V>| kept.key.as_ref() == key;
        match self
            .hot
            .look(thread_index, hash, now.get(), is, |kept| kept.hit(now))
        {
            Looked::Here(hit) => hit,
            Looked::Ask => self.ask(thread_index, Prehashed { hash, key }, false, now),
            Looked::Admit => self.ask(thread_index, Prehashed { hash, key }, true, now),
        }
    }

    async fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<V, MemoryLease>, StoreError> {
        let now = Now::lazy().get();
        Ok(self.leases.with(key, |lease| {
            let known = self
                .kept(key)
                .filter(|e| e.state_at(now) != FreshnessState::Expired);
            let known = match known {
                Some(entry) if !ask.early && entry.state_at(now) == FreshnessState::Fresh => {
                    return Acquired::Fresh(entry);
                }
                known => known,
            };
            match lease.held(now) {
                Some(lasts) => Acquired::Busy { lasts, known },
                None => {
                    let tag = key.tag().map(|tag| Arc::new(self.tags.tagged(tag)));
                    let lease = lease.grant(ask.lease, tag, now);
                    Acquired::Leased { lease, known }
                }
            }
        }))
    }

    async fn fill(
        &self,
        key: &EntryKey,
        lease: &MemoryLease,
        fill: Fill<V>,
    ) -> Result<bool, StoreError> {
        let weight = self.weight_of(key, &fill.value);
        // Outside of the lock, as it is dropped if it is not put.
        let mut kept = Some(MemoryEntry::new(key.clone(), weight, fill, lease));
        let put = self.leases.with(key, |held| {
            let current = lease.tag.as_ref().is_none_or(|tag| tag.is_current());
            let kept = kept.take_if(|_| held.take(lease) && current)?;
            Some(self.put(kept))
        });
        let Some((stored, removed)) = put else {
            return Ok(false);
        };
        self.let_go(removed);
        Ok(stored)
    }

    async fn release(&self, key: &EntryKey, lease: MemoryLease) -> Result<(), StoreError> {
        self.leases.with(key, |held| held.take(&lease));
        Ok(())
    }

    fn release_now(&self, key: &EntryKey, lease: MemoryLease) -> Result<(), MemoryLease> {
        self.leases.with(key, |held| held.take(&lease));
        Ok(())
    }

    async fn look(&self, key: &EntryKey) -> Result<Option<Entry<V>>, StoreError> {
        let now = Now::lazy().get();
        Ok(self
            .kept(key)
            .filter(|e| e.state_at(now) != FreshnessState::Expired))
    }

    async fn invalidate(&self, key: &EntryKey, mode: InvalidationMode) -> Result<(), StoreError> {
        let removed = self.leases.with(key, |held| {
            held.revoke();
            let Some((key, old)) = self.entries.remove(&self.prehashed(key.as_ref())) else {
                return Vec::new();
            };
            old.mark_removed();
            let mut removed = Vec::new();
            if mode == InvalidationMode::Keep {
                (_, removed) = self.put(old.kept.outdated());
            }
            removed.push((key.hash, old));
            removed
        });
        self.let_go(removed);
        Ok(())
    }

    async fn invalidate_tag(&self, tag: &str, mode: InvalidationMode) -> Result<(), StoreError> {
        self.tags.invalidate(tag, mode);
        Ok(())
    }
}

impl<V: Clone> fmt::Debug for MemoryStore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.entries.len())
            .field("weight", &self.entries.weight())
            .finish_non_exhaustive()
    }
}

/// What is not given for a memory store.
pub(super) const DEFAULT_ENTRIES: usize = 10_000;

/// How many answers each stripe of threads has at hand, at most.
const HOT_SLOTS: usize = 512;
