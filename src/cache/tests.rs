//! Beside `hot`, which the model checker's test builds without them.

use super::hot::{HotTables, Looked, Tracked};
use crate::Time;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

const NOW: Time = Time(9_000_000_000);

fn hot() -> HotTables<u64> {
    HotTables::new(2, 4)
}

/// Looks, and asks a store that has it.
fn hit_at(
    hot: &HotTables<u64>,
    thread_index: usize,
    tracked: &Arc<Tracked<u64>>,
    now: Time,
) -> bool {
    let hash = tracked.kept;
    match hot.look(thread_index, hash, now, |kept| *kept == hash, |kept| *kept) {
        Looked::Here(kept) => kept == hash,
        Looked::Ask => false,
        Looked::Admit => {
            hot.admit(thread_index, hash, now, Arc::clone(tracked));
            false
        }
    }
}

fn hit(hot: &HotTables<u64>, thread_index: usize, tracked: &Arc<Tracked<u64>>) -> bool {
    hit_at(hot, thread_index, tracked, NOW)
}

#[test]
fn what_is_asked_for_twice_in_a_row_is_here_from_then_on() {
    let hot = hot();
    let [one, five] = [Tracked::new(1), Tracked::new(5)];
    // Its table is new, and takes anything.
    assert!(!hit(&hot, 0, &one));
    assert!(hit(&hot, 0, &one));
    assert!(!hit(&hot, 1, &one), "another stripe's");
    // In the same place, by turns, what is there stays.
    for _ in 0..3 {
        assert!(!hit(&hot, 0, &five));
        assert!(hit(&hot, 0, &one));
    }
    assert!(!hit(&hot, 0, &five) && !hit(&hot, 0, &five));
    assert!(hit(&hot, 0, &five) && !hit(&hot, 0, &one));
}

#[test]
fn the_store_hears_of_some_hits() {
    let hot = hot();
    let one = Tracked::new(1);
    hit(&hot, 0, &one);
    // A burst.
    let hits = (0..640).filter(|_| hit(&hot, 0, &one)).count();
    assert_eq!(hits, 630);
    // And one now and then.
    let seldom = |n: u64| Time(NOW.0 + n * 500_000);
    let hits = (1..=100)
        .filter(|n| hit_at(&hot, 0, &one, seldom(*n)))
        .count();
    assert_eq!(hits, 50);
}

#[test]
fn what_was_removed_from_the_store_is_forgotten_and_does_not_come_back() {
    let hot = hot();
    let one = Tracked::new(1);
    for thread_index in [0, 1] {
        hit(&hot, thread_index, &one);
        assert!(hit(&hot, thread_index, &one));
    }
    hot.forget(1, &one);
    assert_eq!(Arc::strong_count(&one), 1);
    for thread_index in [0, 1] {
        for _ in 0..3 {
            assert!(!hit(&hot, thread_index, &one));
        }
    }
    assert_eq!(Arc::strong_count(&one), 1);
    // Its successor is another.
    let next = Tracked::new(1);
    hit(&hot, 0, &next);
    hit(&hot, 0, &next);
    hot.forget(1, &one);
    assert!(hit(&hot, 0, &next));
}

#[test]
fn a_copy_that_panics_is_no_reason_to_stop() {
    let hot = hot();
    let one = Tracked::new(1);
    hit(&hot, 0, &one);
    let panics = || {
        hot.look(
            0,
            1,
            NOW,
            |_| true,
            |_| -> bool { panic!("cannot be cloned") },
        )
    };
    let panics = AssertUnwindSafe(|| matches!(panics(), Looked::Here(true)));
    let looked = catch_unwind(panics);
    assert!(looked.is_err());
    assert!(hit(&hot, 0, &one));
    hot.forget(1, &one);
    assert!(!hit(&hot, 0, &one));
}
