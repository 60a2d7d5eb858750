//! Of the stripes and the gate. Not beside them, because the model checker builds these files, too.

use super::{
    gate::{Enqueued, Gate},
    queue::{Discipline, Ticket, Turn},
    stripes::{Stripes, TAKEN},
};
use crate::Time;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Wake, Waker},
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

/// A task whose waker, woken or dropped, runs code that needs the lock of the gate.
struct Asks(Weak<Gate>, Arc<AtomicUsize>);

impl Asks {
    fn asserts_free(&self) {
        let gate = self.0.upgrade().unwrap();
        assert!(gate.state.try_lock().is_ok(), "under the lock");
        self.1.fetch_add(1, SeqCst);
    }
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.asserts_free();
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.asserts_free();
    }
}

#[test]
fn wakers_are_woken_and_dropped_while_nobody_holds_the_lock() {
    let discipline = Discipline {
        capacity: 1,
        wait: 100,
        overloaded_wait: 100,
        overloaded_after: 100,
    };
    let gate = Arc::new(Gate::new(1, 1, discipline));
    let asked = Arc::<AtomicUsize>::default();
    let join = |class, at| match gate.join(class, None, 0, Time(at)) {
        Enqueued::Waiting(ticket) => ticket,
        other => panic!("{other:?}"),
    };
    let poll = |ticket: &Ticket, at| {
        let asks = Asks(Arc::downgrade(&gate), Arc::clone(&asked));
        gate.poll(ticket, &Waker::from(Arc::new(asks)), Time(at))
    };
    // How many wakers were woken or dropped since it was asked last.
    let since = || asked.swap(0, SeqCst);
    assert!(gate.enter(0, || Time(0)).is_some());

    // Replaced by another one, woken because a more important request takes its place, and dropped
    // with that.
    let ticket = join(1, 0);
    assert!(matches!(poll(&ticket, 0), Turn::Waiting(_)));
    assert!(matches!(poll(&ticket, 0), Turn::Waiting(_)));
    assert_eq!(since(), 1);
    let more_important = join(0, 0);
    assert_eq!(since(), 2);
    assert!(matches!(poll(&ticket, 0), Turn::Out(_)));
    assert_eq!(since(), 1);

    // Left behind in the line by a task that goes, and by one that comes too late.
    assert!(matches!(poll(&more_important, 0), Turn::Waiting(_)));
    gate.leave(&more_important, 0, || Time(0));
    assert_eq!(since(), 1);
    let late = join(0, 0);
    assert!(matches!(poll(&late, 0), Turn::Waiting(_)));
    assert!(matches!(poll(&late, 100), Turn::Out(_)));
    assert_eq!(since(), 2);

    // Woken with the permit, and not needed any more by the poll that takes it.
    let next = join(0, 200);
    assert!(matches!(poll(&next, 200), Turn::Waiting(_)));
    gate.exit(0, || Time(200));
    assert_eq!(since(), 2);
    assert_eq!(poll(&next, 200), Turn::Granted);
    assert_eq!(since(), 1);
}
