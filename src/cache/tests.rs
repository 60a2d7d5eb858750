//! Beside `near`, which the model checker's test builds without them.

use super::near::{Looked, Marked, Near};
use crate::Time;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

const NOW: Time = Time(9_000_000_000);

fn near() -> Near<u64> {
    Near::new(2, 4)
}

/// Looks, and asks a store that has it.
fn hit_at(near: &Near<u64>, slot: usize, marked: &Arc<Marked<u64>>, now: Time) -> bool {
    let hash = marked.kept;
    match near.look(slot, hash, now, |kept| *kept == hash, |kept| *kept) {
        Looked::Here(kept) => kept == hash,
        Looked::Ask => false,
        Looked::Want => {
            near.point(slot, hash, now, Arc::clone(marked));
            false
        }
    }
}

fn hit(near: &Near<u64>, slot: usize, marked: &Arc<Marked<u64>>) -> bool {
    hit_at(near, slot, marked, NOW)
}

#[test]
fn what_is_asked_for_twice_in_a_row_is_here_from_then_on() {
    let near = near();
    let [one, five] = [Marked::new(1), Marked::new(5)];
    // Its table is new, and takes anything.
    assert!(!hit(&near, 0, &one));
    assert!(hit(&near, 0, &one));
    assert!(!hit(&near, 1, &one), "another lane's");
    // In the same place, by turns, what is there stays.
    for _ in 0..3 {
        assert!(!hit(&near, 0, &five));
        assert!(hit(&near, 0, &one));
    }
    assert!(!hit(&near, 0, &five) && !hit(&near, 0, &five));
    assert!(hit(&near, 0, &five) && !hit(&near, 0, &one));
}

#[test]
fn the_store_hears_of_some_hits() {
    let near = near();
    let one = Marked::new(1);
    hit(&near, 0, &one);
    // A burst.
    let hits = (0..640).filter(|_| hit(&near, 0, &one)).count();
    assert_eq!(hits, 630);
    // And one now and then.
    let seldom = |n: u64| Time(NOW.0 + n * 500_000);
    let hits = (1..=100)
        .filter(|n| hit_at(&near, 0, &one, seldom(*n)))
        .count();
    assert_eq!(hits, 50);
}

#[test]
fn what_was_removed_from_the_store_is_forgotten_and_does_not_come_back() {
    let near = near();
    let one = Marked::new(1);
    for slot in [0, 1] {
        hit(&near, slot, &one);
        assert!(hit(&near, slot, &one));
    }
    near.forget(1, &one);
    assert_eq!(Arc::strong_count(&one), 1);
    for slot in [0, 1] {
        for _ in 0..3 {
            assert!(!hit(&near, slot, &one));
        }
    }
    assert_eq!(Arc::strong_count(&one), 1);
    // Its successor is another.
    let next = Marked::new(1);
    hit(&near, 0, &next);
    hit(&near, 0, &next);
    near.forget(1, &one);
    assert!(hit(&near, 0, &next));
}

#[test]
fn a_copy_that_panics_is_no_reason_to_stop() {
    let near = near();
    let one = Marked::new(1);
    hit(&near, 0, &one);
    let panics = || {
        near.look(
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
    assert!(hit(&near, 0, &one));
    near.forget(1, &one);
    assert!(!hit(&near, 0, &one));
}
