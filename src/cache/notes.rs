//! What is remembered of a source that fails: pure, and bounded.

use super::key::EntryKey;
use crate::clock::Time;
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// How many keys are remembered, at most: a flood of keys that fail must not fill the memory. A key
/// that is not remembered is loaded once more, that is all.
const MOST: usize = 10_000;

/// The longest key that is remembered, in bytes: nor must long ones.
const LONGEST_KEY: usize = 1_024;

/// The pauses between loads that fail while there is something stale to answer with: a dead
/// source is asked by one call per key and pause, and not by all of them.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
// How late it may be noticed that the source is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// So many failures in a row, of whatever keys, are not the keys' fault: then a stale answer is given
/// before it is tried to load a new one, so that nobody waits for a source that hangs.
const UNWELL: u32 = 3;

/// For how long that holds after the last failure: with one key's pauses there is another by then.
const UNWELL_FOR: Duration = Duration::from_secs(2);

const SWEEP: Duration = Duration::from_secs(1);

/// For how long a key whose answers are not for a cache is loaded by each call on its own.
const ALONE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Note {
    /// The last loads failed, so many in a row.
    Failing { until: Time, failures: u32 },
    /// Its answers cannot be shared, so waiting for one another's is of no use.
    Alone { until: Time },
}

impl Note {
    fn until(self) -> Time {
        match self {
            Self::Failing { until, .. } | Self::Alone { until } => until,
        }
    }
}

/// Notes about keys.
#[derive(Debug, Default)]
pub(super) struct Notes {
    keys: Mutex<NotedKeys>,
    // So that nobody takes the lock while there is nothing to know.
    len: AtomicUsize,
    in_a_row: AtomicU32,
    /// A [`Time`].
    unwell_until: AtomicU64,
}

#[derive(Debug, Default)]
struct NotedKeys {
    notes: HashMap<EntryKey, Note>,
    /// When it was last looked for notes that can go.
    swept: Time,
}

impl Notes {
    fn of(&self, key: &EntryKey) -> Option<Note> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.notes.get(key).copied()
    }

    /// Whether its source failed just now, and should be left alone.
    pub(super) fn failing(&self, key: &EntryKey, now: Time) -> bool {
        matches!(self.of(key), Some(Note::Failing { until, .. }) if now < until)
    }

    /// Whether every call loads on its own.
    pub(super) fn alone(&self, key: &EntryKey, now: Time) -> bool {
        matches!(self.of(key), Some(Note::Alone { until }) if now < until)
    }

    /// A load failed. `unit` is a number in `[0, 1)`: the pause is jittered by up to a half.
    pub(super) fn failed(&self, key: &EntryKey, unit: f64, now: Time) {
        self.write(key, now, |old| {
            let failures = match old {
                Some(Note::Failing { failures, .. }) => failures.saturating_add(1),
                _ => 1,
            };
            let doubled = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16));
            let pause = doubled.min(LONGEST_PAUSE).mul_f64(1.0 - unit / 2.0);
            Note::Failing {
                until: now.after(pause),
                failures,
            }
        });
    }

    /// Its answers are not for a cache.
    pub(super) fn not_for_a_cache(&self, key: &EntryKey, now: Time) {
        let until = now.after(ALONE);
        self.write(key, now, |_| Note::Alone { until });
    }

    /// Whether the source has failed for whoever asked lately.
    pub(super) fn unwell(&self, now: Time) -> bool {
        now.0 < self.unwell_until.load(Relaxed)
    }

    /// A load failed, for whatever key.
    pub(super) fn source_failed(&self, now: Time) {
        let before = self.in_a_row.load(Relaxed);
        // Counts that get lost between threads only make it a little later.
        self.in_a_row.store(before.saturating_add(1), Relaxed);
        if before >= UNWELL - 1 {
            self.unwell_until.store(now.after(UNWELL_FOR).0, Relaxed);
        }
    }

    /// A load succeeded.
    pub(super) fn succeeded(&self, key: &EntryKey) {
        self.source_succeeded();
        self.forget(key, |_| true);
    }

    /// A load succeeded, for whatever key.
    pub(super) fn source_succeeded(&self) {
        if self.in_a_row.load(Relaxed) > 0 {
            self.in_a_row.store(0, Relaxed);
            self.unwell_until.store(0, Relaxed);
        }
    }

    /// An answer was one for a cache.
    pub(super) fn for_a_cache(&self, key: &EntryKey) {
        self.forget(key, |note| matches!(note, Note::Alone { .. }));
    }

    fn forget(&self, key: &EntryKey, which: impl FnOnce(Note) -> bool) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.notes.get(key).copied().is_some_and(which) {
            keys.notes.remove(key);
            self.len.store(keys.notes.len(), Relaxed);
        }
    }

    fn write(&self, key: &EntryKey, now: Time, note: impl FnOnce(Option<Note>) -> Note) {
        if key.key().len() + key.tag().map_or(0, str::len) > LONGEST_KEY {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.notes.len() >= MOST && !keys.notes.contains_key(key) {
            // Looking through all of them is for now and then, not for every key of a flood.
            if keys.swept.after(SWEEP) <= now {
                keys.swept = now;
                // How often a key has failed is worth knowing for as long again as its pause.
                let worth = |note: &Note| now < note.until().after(LONGEST_PAUSE);
                keys.notes.retain(|_, note| worth(note));
            }
            if keys.notes.len() >= MOST {
                return;
            }
        }
        let new = note(keys.notes.get(key).copied());
        keys.notes.insert(key.clone(), new);
        self.len.store(keys.notes.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeyRef;

    #[test]
    fn a_dead_source_is_asked_less_and_less_until_it_answers() {
        let (notes, key) = (Notes::default(), KeyRef::new("7").to_owned());
        let mut now = Time(0);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(!notes.failing(&key, now));
            notes.failed(&key, 0.0, now);
            let began = now;
            while notes.failing(&key, now) {
                now = now.after(FIRST_PAUSE);
            }
            pauses.push(now.since(began).as_millis());
        }
        assert_eq!(pauses, [125, 250, 500, 1000, 1000, 1000]);
        notes.succeeded(&key);
        notes.failed(&key, 0.99, now);
        assert!(!notes.failing(&key, now.after(FIRST_PAUSE)));
    }

    #[test]
    fn a_source_is_unwell_after_some_failures_in_a_row_until_it_answers_or_is_not_asked() {
        let (notes, key) = (Notes::default(), KeyRef::new("7").to_owned());
        let now = Time(1);
        for failures in 1..9 {
            notes.source_failed(now);
            assert_eq!(notes.unwell(now), failures >= UNWELL);
        }
        assert!(!notes.unwell(now.after(UNWELL_FOR)));
        notes.succeeded(&key);
        assert!(!notes.unwell(now));
        notes.source_failed(now);
        assert!(!notes.unwell(now));
    }

    #[test]
    fn a_flood_of_keys_is_forgotten() {
        let notes = Notes::default();
        let key = |n: usize| KeyRef::new(&n.to_string()).to_owned();
        for n in 0..2 * MOST {
            notes.failed(&key(n), 0.0, Time(0));
        }
        assert_eq!(notes.len.load(Relaxed), MOST);
        let later = Time(0).after(LONGEST_PAUSE * 3);
        notes.not_for_a_cache(&key(3 * MOST), later);
        assert!(notes.alone(&key(3 * MOST), later));
        assert!(!notes.alone(&key(3 * MOST), later.after(ALONE)));
        assert_eq!(notes.len.load(Relaxed), 1);
    }

    #[test]
    fn a_key_whose_answers_are_for_a_cache_again_is_not_alone_any_more() {
        let (notes, key) = (Notes::default(), KeyRef::new("7").to_owned());
        notes.not_for_a_cache(&key, Time(0));
        notes.for_a_cache(&key);
        assert!(!notes.alone(&key, Time(0)));
        notes.failed(&key, 0.0, Time(0));
        notes.for_a_cache(&key);
        assert!(notes.failing(&key, Time(0)));
    }

    #[test]
    fn a_long_key_is_not_remembered() {
        let notes = Notes::default();
        let long = KeyRef::new(&"x".repeat(2 * LONGEST_KEY)).to_owned();
        notes.not_for_a_cache(&long, Time(0));
        assert!(!notes.alone(&long, Time(0)));
    }
}
