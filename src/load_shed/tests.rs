//! Of the stripes. Not beside them, because the model checker builds that file, too.

use super::stripes::{Stripes, TAKEN};
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

fn take(stripes: &Stripes, slot: usize) -> bool {
    stripes
        .take_own(slot)
        .or_else(|| stripes.steal(slot))
        .is_some()
}

#[test]
fn every_permit_can_be_taken_from_every_slot_and_no_more_than_there_are() {
    for permits in [1, 2, 3, 7, 64, 1000] {
        for slot in 0..5 {
            let stripes = Stripes::new(permits, 4);
            assert_eq!(
                (0..2 * permits).filter(|_| take(&stripes, slot)).count(),
                permits
            );
            stripes.put(slot + 1, 1);
            assert!(take(&stripes, slot));
            assert_eq!((stripes.free(), stripes.taken()), (0, permits as u64 + 1));
        }
    }
}

#[test]
fn a_slot_that_has_found_nothing_finds_what_comes_back_anywhere_even_if_it_was_gone_meanwhile() {
    for back in 0..4 {
        let stripes = Stripes::new(2, 4);
        assert!(!stripes.still_empty(0));
        assert!(take(&stripes, 0) && take(&stripes, 0));
        // It has to look properly once.
        assert!(!stripes.still_empty(0));
        assert!(!take(&stripes, 0) && stripes.still_empty(0));
        stripes.put(back, 1);
        assert!(!stripes.still_empty(0));
        // Another one takes it: all are empty again, but they were not all the time.
        assert!(take(&stripes, 1) && !stripes.still_empty(0));
        stripes.put(back, 1);
        assert!(take(&stripes, 0));
        assert_eq!((stripes.free(), stripes.taken()), (0, 4));
    }
}

#[test]
fn the_count_of_those_taken_survives_its_32_bits() {
    let stripes = Stripes::new(1, 1);
    stripes.words[0]
        .0
        .fetch_add(u64::from(u32::MAX) * TAKEN, SeqCst);
    assert!(take(&stripes, 0));
    assert_eq!((stripes.free(), stripes.taken()), (0, 1 << 32));
}

#[test]
fn threads_that_need_no_more_than_there_are_always_get_one_and_none_is_made_or_lost() {
    const THREADS: usize = 4;
    let (stripes, used) = (Stripes::new(THREADS, 4), AtomicUsize::new(0));
    thread::scope(|s| {
        for slot in 0..THREADS {
            let (stripes, used) = (&stripes, &used);
            s.spawn(move || {
                for round in 0..50_000 {
                    // A thief that is interrupted with permits in its hands makes the others miss,
                    // but not for ever: once it has run, there is one for everybody.
                    while !take(stripes, slot) {
                        thread::yield_now();
                    }
                    assert!(used.fetch_add(1, SeqCst) < THREADS);
                    used.fetch_sub(1, SeqCst);
                    // Calls end on other threads than they began on.
                    stripes.put(slot + round, 1);
                }
            });
        }
    });
    assert_eq!(stripes.free(), THREADS);
}
