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
    cache::{Entry, EntryKey, KeyRef, Worth},
    clock::{Now, Time},
};
use quick_cache::{Equivalent, Weighter, sync::Cache};
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

/// Counts of keys: they are compared only while an entry is on its way.
const KEYS: usize = 256;

/// Counts of tags: those that share one are dropped together.
const TAGS: usize = 4096;

/// What an entry weighs besides its answer and its texts: its place, its times.
const OVERHEAD: u64 = 160;

pub(super) struct Tier<V> {
    entries: Cache<EntryKey, Kept<V>, Weigh<V>>,
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
struct Kept<V> {
    entry: Entry<V>,
    mark: Mark,
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

#[derive(Clone)]
struct Weigh<V>(Option<Weigher<V>>);

/// A key that is looked up.
#[derive(Hash)]
struct Wanted<'a>(KeyRef<'a>);

impl Equivalent<EntryKey> for Wanted<'_> {
    fn equivalent(&self, key: &EntryKey) -> bool {
        self.0 == key.as_ref()
    }
}

impl<V> Weighter<EntryKey, Kept<V>> for Weigh<V> {
    fn weight(&self, key: &EntryKey, kept: &Kept<V>) -> u64 {
        let Some(weigh) = &self.0 else { return 1 };
        let texts = key.key().len() + key.tag().map_or(0, str::len);
        let weight = weigh(&kept.entry.value).saturating_add(texts);
        (weight as u64).saturating_add(OVERHEAD)
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
            entries: Cache::with_weighter(guess, capacity as u64, Weigh(weigher)),
            epoch: AtomicU64::new(0),
            until: AtomicU64::new(0),
            run: RwLock::new(None),
            keys: (0..KEYS).map(|_| Mutex::default()).collect(),
            tags: (0..TAGS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            max_age,
        }
    }

    /// The entry, if it is certain enough to be right.
    pub(super) fn peek(&self, key: KeyRef<'_>, now: &Now) -> Option<Entry<V>> {
        // Read before the entry: what was invalidated before the question that `until` stems from
        // is gone from what is seen after it.
        let until = self.until.load(Acquire);
        if until == 0 || now.get().0 >= until {
            return None;
        }
        let Kept { entry, mark } = self.entries.get(&Wanted(key))?;
        let now = now.get();
        let right = mark.epoch == self.epoch.load(Acquire)
            && mark.tag == self.tag(key.tag())
            && now.since(entry.read) < self.max_age
            && entry.worth_at(now) == Worth::Fresh;
        right.then_some(entry)
    }

    /// To be taken before the entry is asked for.
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
        // Held until it is in: an invalidation comes before or after.
        let count = self.key(key.as_ref());
        if *count == mark.key && self.epoch.load(Acquire) == mark.epoch && mark.epoch % 2 == 1 {
            self.entries.insert(key.clone(), Kept { entry, mark });
        }
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
                self.entries.remove(&Wanted(key));
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
        self.entries.clear();
    }

    // Silent => listening
    /// Invalidations are heard of from now on, from this run. Returns the epoch.
    pub(super) fn begin(&self, run: &Arc<str>) -> u64 {
        let epoch = self.epoch.load(Acquire);
        // The next odd one.
        let epoch = epoch + 1 + epoch % 2;
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(run));
        self.epoch.store(epoch, Release);
        self.entries.clear();
        epoch
    }

    /// While listening: memory may answer until then.
    pub(super) fn extend(&self, until: Time) {
        self.until.store(until.0, Release);
    }

    // Listening => silent
    /// The connection of this epoch is lost. Nothing happens if it is another one's by now.
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
            self.entries.clear();
        }
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
mod tests {
    use super::*;
    use crate::cache::Freshness;

    const S: Duration = Duration::from_secs(1);
    const RUN: &str = "run";

    /// A tier that listens, and may answer for the next hour.
    fn listening() -> (Tier<u32>, u64) {
        let tier = Tier::new(100, None, 5 * S);
        let epoch = tier.begin(&RUN.into());
        tier.extend(Time::now().after(3600 * S));
        (tier, epoch)
    }

    fn entry(value: u32) -> Entry<u32> {
        Entry {
            value,
            age: Duration::ZERO,
            read: Time::now(),
            freshness: Freshness::fresh(60 * S),
            cost: Duration::ZERO,
            outdated: false,
        }
    }

    fn key() -> EntryKey {
        KeyRef::new("7").tagged("items").to_owned()
    }

    fn put(tier: &Tier<u32>, entry: Entry<u32>) {
        tier.keep(&key(), tier.mark(&key()), RUN, || entry);
    }

    fn seen(tier: &Tier<u32>) -> Option<u32> {
        seen_at(tier, Time::now())
    }

    fn seen_at(tier: &Tier<u32>, now: Time) -> Option<u32> {
        Some(tier.peek(key().as_ref(), &Now::at(now))?.value)
    }

    // I7
    #[test]
    fn an_entry_is_the_answer_until_the_heartbeat_or_its_time_in_memory_or_its_freshness_ends() {
        let (tier, _) = listening();
        let begun = Time::now();
        let entry = Entry {
            read: begun,
            ..entry(1)
        };
        put(&tier, entry.clone());
        let just_before = |end: Duration| Time(begun.after(end).0 - 1);
        assert_eq!(seen_at(&tier, just_before(5 * S)), Some(1));
        assert_eq!(seen_at(&tier, begun.after(5 * S)), None);

        tier.extend(begun.after(2 * S));
        assert_eq!(seen_at(&tier, just_before(2 * S)), Some(1));
        assert_eq!(seen_at(&tier, begun.after(2 * S)), None);

        tier.extend(begun.after(60 * S));
        let age = 59 * S;
        put(
            &tier,
            Entry {
                age,
                ..entry.clone()
            },
        );
        assert_eq!(seen_at(&tier, just_before(S)), Some(1));
        assert_eq!(seen_at(&tier, begun.after(S)), None);
        put(
            &tier,
            Entry {
                outdated: true,
                ..entry
            },
        );
        assert_eq!(seen_at(&tier, begun), None);
    }

    // I8
    #[test]
    fn what_was_asked_for_before_an_invalidation_is_not_kept_after_it() {
        let (tier, _) = listening();
        for what in [
            Invalidated::Entry(key().as_ref()),
            Invalidated::Tag("items"),
        ] {
            let before = tier.mark(&key());
            tier.forget(what);
            tier.keep(&key(), before, RUN, || entry(1));
            assert_eq!(seen(&tier), None, "{what:?}");
            put(&tier, entry(2));
            assert_eq!(seen(&tier), Some(2));
            tier.forget(what);
            assert_eq!(seen(&tier), None, "{what:?}");
        }
        put(&tier, entry(3));
        let before = tier.mark(&key());
        tier.forget_all();
        tier.keep(&key(), before, RUN, || entry(1));
        assert_eq!(seen(&tier), None);
    }

    #[test]
    fn a_lost_connection_forgets_everything_and_nothing_from_before_comes_back() {
        let (tier, first) = listening();
        put(&tier, entry(1));
        let while_up = tier.mark(&key());
        tier.end(first);
        assert_eq!((seen(&tier), tier.listens(), tier.len()), (None, false, 0));
        // Not what is asked for in between either: who knows what is invalidated meanwhile.
        let while_down = tier.mark(&key());
        tier.extend(Time::now().after(60 * S));
        put(&tier, entry(1));
        assert_eq!(seen(&tier), None);

        let second = tier.begin(&RUN.into());
        for mark in [while_up, while_down] {
            tier.keep(&key(), mark, RUN, || entry(1));
            assert_eq!(seen(&tier), None);
        }
        put(&tier, entry(2));
        // That the first one is lost is heard again, and late.
        tier.end(first);
        tier.end(0);
        assert_eq!(seen(&tier), Some(2));
        tier.end(second);
        assert_eq!(seen(&tier), None);
    }

    #[test]
    fn what_another_run_of_redis_said_is_not_kept() {
        let (tier, _) = listening();
        tier.keep(&key(), tier.mark(&key()), "another", || entry(1));
        assert_eq!(seen(&tier), None);
    }

    #[test]
    fn a_tier_that_never_listened_keeps_nothing() {
        let tier = Tier::new(100, None, 5 * S);
        tier.end(0);
        tier.extend(Time::now().after(60 * S));
        put(&tier, entry(1));
        assert_eq!(seen(&tier), None);
    }

    #[test]
    fn it_holds_no_more_than_it_may_weigh() {
        let weigh: Weigher<Vec<u8>> = Arc::new(Vec::len);
        let tier = Tier::new(100_000, Some(weigh), 5 * S);
        tier.begin(&RUN.into());
        tier.extend(Time::now().after(60 * S));
        for i in 0..1000 {
            let key = KeyRef::from(&i.to_string()).to_owned();
            tier.keep(&key, tier.mark(&key), RUN, || {
                let Entry {
                    age,
                    read,
                    freshness,
                    cost,
                    outdated,
                    ..
                } = entry(1);
                Entry {
                    value: vec![0; 1000],
                    age,
                    read,
                    freshness,
                    cost,
                    outdated,
                }
            });
            assert!(tier.entries.weight() <= 100_000 + 64);
        }
        assert!(tier.len() > 50, "{}", tier.len());
    }
}
