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

/// The first pause between loads that fail while there is something stale to answer with: a dead
/// source is asked by one call per key and pause, and not by all of them.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
/// The longest pause: how late it may be noticed that the source is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many failures in a row, of whatever keys, are not the keys' fault: then a stale answer is
/// given before it is tried to load a new one, so that nobody waits for a source that hangs.
const DOWN_AFTER: u32 = 3;

/// For how long a source counts as down after the last failure: with one key's pauses there is
/// another failure by then.
const DOWN_FOR: Duration = Duration::from_secs(2);

/// How often it is looked for keys that can be forgotten, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// For how long a key whose answers are not for a cache is loaded by each call on its own.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyState {
    /// The last loads failed, so many in a row.
    BackingOff { until: Time, failures: u32 },
    /// Its answers cannot be shared, so waiting for one another's is of no use.
    Uncacheable { until: Time },
}

impl KeyState {
    fn until(self) -> Time {
        match self {
            Self::BackingOff { until, .. } | Self::Uncacheable { until } => until,
        }
    }
}

/// What loads have taught of keys, and of the source behind all of them.
#[derive(Debug, Default)]
pub(super) struct FailureMemory {
    keys: Mutex<RememberedKeys>,
    // So that nobody takes the lock while there is nothing to know.
    len: AtomicUsize,
    failures_in_a_row: AtomicU32,
    /// A [`Time`].
    down_until: AtomicU64,
}

#[derive(Debug, Default)]
struct RememberedKeys {
    states: HashMap<EntryKey, KeyState>,
    /// When it was last looked for states that can go.
    swept: Time,
}

impl FailureMemory {
    fn of(&self, key: &EntryKey) -> Option<KeyState> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.states.get(key).copied()
    }

    /// Whether loads of this key failed just now, so that the next is to wait.
    pub(super) fn backing_off(&self, key: &EntryKey, now: Time) -> bool {
        matches!(self.of(key), Some(KeyState::BackingOff { until, .. }) if now < until)
    }

    /// Whether every call for this key loads on its own.
    pub(super) fn is_uncacheable(&self, key: &EntryKey, now: Time) -> bool {
        matches!(self.of(key), Some(KeyState::Uncacheable { until }) if now < until)
    }

    /// Notes that a load of this key failed. `unit` is a number in `[0, 1)`: the pause is jittered
    /// by up to a half.
    pub(super) fn failed(&self, key: &EntryKey, unit: f64, now: Time) {
        self.write(key, now, |old| {
            let failures = match old {
                Some(KeyState::BackingOff { failures, .. }) => failures.saturating_add(1),
                _ => 1,
            };
            let doubled = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16));
            let pause = doubled.min(LONGEST_PAUSE).mul_f64(1.0 - unit / 2.0);
            KeyState::BackingOff {
                until: now.after(pause),
                failures,
            }
        });
    }

    /// Notes that this key's answers are for one caller each.
    pub(super) fn mark_uncacheable(&self, key: &EntryKey, now: Time) {
        let until = now.after(UNCACHEABLE_FOR);
        self.write(key, now, |_| KeyState::Uncacheable { until });
    }

    /// Whether the source has failed for whoever asked lately, of whatever key.
    pub(super) fn source_down(&self, now: Time) -> bool {
        now.0 < self.down_until.load(Relaxed)
    }

    /// Notes that a load failed, of whatever key.
    pub(super) fn source_failed(&self, now: Time) {
        let before = self.failures_in_a_row.load(Relaxed);
        // Counts that get lost between threads only make it a little later.
        self.failures_in_a_row
            .store(before.saturating_add(1), Relaxed);
        if before >= DOWN_AFTER - 1 {
            self.down_until.store(now.after(DOWN_FOR).0, Relaxed);
        }
    }

    /// Notes that a load of this key succeeded.
    pub(super) fn succeeded(&self, key: &EntryKey) {
        self.source_succeeded();
        self.forget(key, |_| true);
    }

    /// Notes that a load succeeded, of whatever key.
    pub(super) fn source_succeeded(&self) {
        if self.failures_in_a_row.load(Relaxed) > 0 {
            self.failures_in_a_row.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
        }
    }

    /// Notes that an answer of this key may be stored for all.
    pub(super) fn mark_cacheable(&self, key: &EntryKey) {
        self.forget(key, |state| matches!(state, KeyState::Uncacheable { .. }));
    }

    fn forget(&self, key: &EntryKey, which: impl FnOnce(KeyState) -> bool) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.states.get(key).copied().is_some_and(which) {
            keys.states.remove(key);
            self.len.store(keys.states.len(), Relaxed);
        }
    }

    fn write(&self, key: &EntryKey, now: Time, state: impl FnOnce(Option<KeyState>) -> KeyState) {
        if key.key().len() + key.tag().map_or(0, str::len) > LONGEST_KEY {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.states.len() >= MOST && !keys.states.contains_key(key) {
            // Looking through all of them is for now and then, not for every key of a flood.
            if keys.swept.after(SWEEP) <= now {
                keys.swept = now;
                // How often a key has failed is worth knowing for as long again as its pause.
                let worth = |state: &KeyState| now < state.until().after(LONGEST_PAUSE);
                keys.states.retain(|_, state| worth(state));
            }
            if keys.states.len() >= MOST {
                return;
            }
        }
        let new = state(keys.states.get(key).copied());
        keys.states.insert(key.clone(), new);
        self.len.store(keys.states.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeyRef;

    #[test]
    fn a_dead_source_is_asked_less_and_less_until_it_answers() {
        let (memory, key) = (FailureMemory::default(), KeyRef::new("7").to_owned());
        let mut now = Time(0);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(!memory.backing_off(&key, now));
            memory.failed(&key, 0.0, now);
            let began = now;
            while memory.backing_off(&key, now) {
                now = now.after(FIRST_PAUSE);
            }
            pauses.push(now.since(began).as_millis());
        }
        assert_eq!(pauses, [125, 250, 500, 1000, 1000, 1000]);
        memory.succeeded(&key);
        memory.failed(&key, 0.99, now);
        assert!(!memory.backing_off(&key, now.after(FIRST_PAUSE)));
    }

    #[test]
    fn a_source_is_down_after_some_failures_in_a_row_until_it_answers_or_is_not_asked() {
        let (memory, key) = (FailureMemory::default(), KeyRef::new("7").to_owned());
        let now = Time(1);
        for failures in 1..9 {
            memory.source_failed(now);
            assert_eq!(memory.source_down(now), failures >= DOWN_AFTER);
        }
        assert!(!memory.source_down(now.after(DOWN_FOR)));
        memory.succeeded(&key);
        assert!(!memory.source_down(now));
        memory.source_failed(now);
        assert!(!memory.source_down(now));
    }

    #[test]
    fn a_flood_of_keys_is_forgotten() {
        let memory = FailureMemory::default();
        let key = |n: usize| KeyRef::new(&n.to_string()).to_owned();
        for n in 0..2 * MOST {
            memory.failed(&key(n), 0.0, Time(0));
        }
        assert_eq!(memory.len.load(Relaxed), MOST);
        let later = Time(0).after(LONGEST_PAUSE * 3);
        memory.mark_uncacheable(&key(3 * MOST), later);
        assert!(memory.is_uncacheable(&key(3 * MOST), later));
        assert!(!memory.is_uncacheable(&key(3 * MOST), later.after(UNCACHEABLE_FOR)));
        assert_eq!(memory.len.load(Relaxed), 1);
    }

    #[test]
    fn a_key_whose_answers_may_be_stored_again_is_not_uncacheable_any_more() {
        let (memory, key) = (FailureMemory::default(), KeyRef::new("7").to_owned());
        memory.mark_uncacheable(&key, Time(0));
        memory.mark_cacheable(&key);
        assert!(!memory.is_uncacheable(&key, Time(0)));
        memory.failed(&key, 0.0, Time(0));
        memory.mark_cacheable(&key);
        assert!(memory.backing_off(&key, Time(0)));
    }

    #[test]
    fn a_long_key_is_not_remembered() {
        let memory = FailureMemory::default();
        let long = KeyRef::new(&"x".repeat(2 * LONGEST_KEY)).to_owned();
        memory.mark_uncacheable(&long, Time(0));
        assert!(!memory.is_uncacheable(&long, Time(0)));
    }
}
