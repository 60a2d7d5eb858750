//! Model-checks that nobody finds at hand what the store no longer has: every interleaving of a few
//! threads, up to a number of preemptions. It builds the library's own file, from loom's atomics and
//! locks.
#![cfg(feature = "cache")]
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use buttress::Time;
use hot::{HotTables, Looked, Tracked};
use loom::thread;
use sync::{Arc, Mutex};

#[path = "../../src/cache/hot.rs"]
mod hot;

mod sync {
    pub use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64};
    pub use std::sync::atomic::Ordering::{AcqRel, Acquire};

    #[derive(Debug)]
    pub struct Padded<T>(pub T);
}

/// All there is has this hash.
const HASH: u64 = 3;
const NOW: Time = Time::from_nanos(0);

/// A store of one answer, and what is at hand of it.
struct Store {
    stored: Mutex<Option<Arc<Tracked<u32>>>>,
    hot: HotTables<u32>,
}

impl Store {
    /// With this answer in it.
    fn with(answer: u32) -> Arc<Self> {
        Arc::new(Self {
            stored: Mutex::new(Some(Tracked::new(answer))),
            hot: HotTables::new(2, 1),
        })
    }

    fn get(&self, thread_index: usize) -> Option<u32> {
        let admit = match self
            .hot
            .look(thread_index, HASH, NOW, |_| true, |kept| *kept)
        {
            Looked::Here(answer) => return Some(answer),
            Looked::Admit => true,
            Looked::Ask => false,
        };
        let tracked = self.stored.lock().unwrap().clone()?;
        let answer = tracked.kept;
        if admit {
            self.hot.admit(thread_index, HASH, NOW, tracked);
        }
        Some(answer)
    }

    fn replace(&self, by: Option<u32>) {
        let mut stored = self.stored.lock().unwrap();
        let old = std::mem::replace(&mut *stored, by.map(Tracked::new));
        if let Some(old) = &old {
            old.mark_removed();
        }
        drop(stored);
        if let Some(old) = old {
            self.hot.forget(HASH, &old);
        }
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn what_was_removed_is_not_at_hand_and_does_not_come_back() {
    check(|| {
        let store = Store::with(1);
        let readers = [0, 1].map(|thread_index| {
            let store = store.clone();
            thread::spawn(move || {
                store.get(thread_index);
                store.get(thread_index);
            })
        });
        store.replace(None);
        for thread_index in [0, 1] {
            assert_eq!(store.get(thread_index), None);
        }
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        for thread_index in [0, 1] {
            assert_eq!(store.get(thread_index), None);
        }
    });
}

#[test]
fn what_another_has_removed_is_not_at_hand_even_before_it_is_forgotten() {
    check(|| {
        let store = Store::with(1);
        for _ in 0..2 {
            store.get(0);
        }
        let other = store.clone();
        let other = thread::spawn(move || other.replace(None));
        // As an invalidation does that finds nothing to remove.
        let removed = store.stored.lock().unwrap().is_none();
        if removed {
            assert_eq!(store.get(0), None);
        }
        other.join().unwrap();
        assert_eq!(store.get(0), None);
    });
}

#[test]
fn threads_of_one_lane_do_not_bring_back_what_was_replaced() {
    check(|| {
        let store = Store::with(1);
        let reader = store.clone();
        let reader = thread::spawn(move || {
            let first = reader.get(0);
            let second = reader.get(0);
            assert!(first <= second, "{first:?}, then {second:?}");
        });
        store.replace(Some(2));
        assert_eq!(store.get(2), Some(2));
        store.replace(Some(3));
        assert_eq!(store.get(2), Some(3));
        reader.join().unwrap();
        assert_eq!(store.get(0), Some(3));
    });
}
