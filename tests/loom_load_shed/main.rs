//! Model-checks how a permit gets from those who have it to those who wait: every interleaving of a
//! few threads, up to a number of preemptions. It builds the library's own files, from loom's
//! atomics and locks.
#![cfg(feature = "load-shed")]
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use buttress::Time;
use gate::{Enqueued, Gate};
use queue::{Discipline, Turn};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};
use stripes::{Stripes, TAKEN};

#[path = "../../src/load_shed/gate.rs"]
mod gate;
#[path = "../../src/load_shed/queue/mod.rs"]
mod queue;
#[path = "../../src/load_shed/stripes.rs"]
mod stripes;

mod sync {
    use loom::sync::atomic::{self, fence};
    pub use loom::sync::{Mutex, MutexGuard};
    pub use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

    /// Few, and no pause between them, so that the other one is also met in the middle of a move.
    pub const LOOKS: usize = 2;
    pub fn pause() {}

    #[derive(Debug)]
    pub struct Padded<T>(pub T);

    /// Loom takes a sequentially consistent access for an acquire or a release, which is too weak
    /// for a store that must be seen before a load is made; but it knows what the fence does.
    fn ordered<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
        if order == SeqCst {
            fence(SeqCst);
        }
        let result = access();
        if order == SeqCst {
            fence(SeqCst);
        }
        result
    }

    macro_rules! atomic {
        ($name:ident, $of:ty) => {
            #[derive(Debug)]
            pub struct $name(atomic::$name);

            impl $name {
                pub fn new(value: $of) -> Self {
                    Self(atomic::$name::new(value))
                }
                pub fn load(&self, order: Ordering) -> $of {
                    ordered(order, || self.0.load(order))
                }
                pub fn store(&self, value: $of, order: Ordering) {
                    ordered(order, || self.0.store(value, order));
                }
                pub fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                    ordered(order, || self.0.fetch_add(value, order))
                }
                pub fn fetch_sub(&self, value: $of, order: Ordering) -> $of {
                    ordered(order, || self.0.fetch_sub(value, order))
                }
                pub fn fetch_or(&self, value: $of, order: Ordering) -> $of {
                    ordered(order, || self.0.fetch_or(value, order))
                }
                pub fn compare_exchange_weak(
                    &self,
                    old: $of,
                    new: $of,
                    order: Ordering,
                    failed: Ordering,
                ) -> Result<$of, $of> {
                    ordered(order, || {
                        self.0.compare_exchange_weak(old, new, order, failed)
                    })
                }
            }
        };
    }
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
}

const NOW: Time = Time::from_nanos(0);

fn gate(limit: usize) -> loom::sync::Arc<Gate> {
    let discipline = Discipline {
        capacity: 10,
        wait: 1_000,
        overloaded_wait: 1_000,
        overloaded_after: 1_000,
    };
    loom::sync::Arc::new(Gate::new(limit, 2, discipline))
}

fn enter(gate: &Gate, slot: usize) -> bool {
    gate.enter(slot, || NOW).is_some()
}

fn exit(gate: &Gate, slot: usize) {
    gate.exit(slot, || NOW);
}

/// Sleeps until there is a permit: what hangs here was not woken.
fn wait(gate: &Gate, slot: usize) {
    if enter(gate, slot) {
        return;
    }
    match gate.join(0, None, slot, NOW) {
        Enqueued::Admitted => {}
        Enqueued::Full => panic!("there is room for ten"),
        Enqueued::Waiting(ticket) => {
            loom::future::block_on(poll_fn(|cx| match gate.poll(&ticket, cx.waker(), NOW) {
                Turn::Granted => Poll::Ready(()),
                Turn::Waiting(_) => Poll::Pending,
                Turn::Out(why) => panic!("{why:?}"),
            }))
        }
    }
}

/// Nobody is in, nobody waits, and every permit of this limit can be had.
fn assert_at_rest(gate: &Gate, limit: usize) {
    let counts = gate.counts();
    assert_eq!(
        (counts.limit, counts.in_flight, counts.queued),
        (limit, 0, 0)
    );
    for taken in 0..=limit {
        assert_eq!(enter(gate, 0), taken < limit, "permit {taken} of {limit}");
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_permit_that_comes_back_while_someone_joins_the_line_is_not_left_lying() {
    check(|| {
        let gate = gate(1);
        assert!(enter(&gate, 0));
        let holder = gate.clone();
        let thread = loom::thread::spawn(move || exit(&holder, 0));
        wait(&gate, 1);
        exit(&gate, 1);
        thread.join().unwrap();
        assert_at_rest(&gate, 1);
    });
}

#[test]
fn several_who_wait_all_get_in_and_never_more_than_the_limit_at_once() {
    check(|| {
        let gate = gate(1);
        let inside = Arc::new(AtomicUsize::new(0));
        let call = move |gate: &Gate, slot| {
            wait(gate, slot);
            assert_eq!(inside.fetch_add(1, SeqCst), 0);
            inside.fetch_sub(1, SeqCst);
            exit(gate, slot);
        };
        let (other, other_call) = (gate.clone(), call.clone());
        let thread = loom::thread::spawn(move || other_call(&other, 1));
        call(&gate, 0);
        thread.join().unwrap();
        assert_at_rest(&gate, 1);
    });
}

#[test]
fn permits_in_the_hands_of_a_thief_reach_the_one_who_did_not_see_them() {
    check(|| {
        let gate = gate(3);
        // All in the stripe that nobody here calls its own; the thief takes two at once.
        for slot in [0, 1, 0] {
            assert!(enter(&gate, slot));
        }
        (0..3).for_each(|_| exit(&gate, 1));
        // They keep their permits: nothing but the theft itself can help the other ones.
        let thieves = [(); 2].map(|()| {
            let gate = gate.clone();
            loom::thread::spawn(move || wait(&gate, 0))
        });
        wait(&gate, 0);
        thieves.into_iter().for_each(|thief| thief.join().unwrap());
        (0..3).for_each(|_| exit(&gate, 0));
        assert_at_rest(&gate, 3);
    });
}

#[test]
fn a_glance_at_empty_stripes_refuses_only_if_all_permits_were_taken_at_once() {
    // Whichever stripe is looked at first.
    for (here, there) in [(0, 1), (1, 0)] {
        check(move || {
            let stripes = loom::sync::Arc::new(Stripes::new(2, 2));
            for slot in [0, 1] {
                assert!(stripes.take_own(slot).is_some());
            }
            // Now it is known that all are empty, and how many had been taken then.
            assert!(stripes.steal(there).is_none() && stripes.still_empty(there));
            stripes.put(here, 1);
            let other = stripes.clone();
            // One permit is always free: first the one here, and then the one there.
            let thread = loom::thread::spawn(move || {
                other.put(there, 1);
                // Taken in one step: once a thread has itself read a word, loom forgets who else
                // did, and does not let it write in between.
                other.words[here].0.fetch_add(TAKEN - 1, SeqCst);
            });
            assert!(!stripes.still_empty(there));
            thread.join().unwrap();
            assert_eq!((stripes.free(), stripes.taken()), (1, 3));
        });
    }
}

#[test]
fn a_permit_granted_to_one_who_leaves_goes_to_the_next() {
    check(|| {
        let gate = gate(1);
        assert!(enter(&gate, 0));
        let Enqueued::Waiting(first) = gate.join(0, None, 0, NOW) else {
            panic!("the permit is taken");
        };
        let other = gate.clone();
        let thread = loom::thread::spawn(move || {
            wait(&other, 1);
            exit(&other, 1);
        });
        let holder = gate.clone();
        let holding = loom::thread::spawn(move || exit(&holder, 0));
        gate.leave(&first, 0, || NOW);
        thread.join().unwrap();
        holding.join().unwrap();
        assert_at_rest(&gate, 1);
    });
}

#[test]
fn what_a_lower_limit_owes_is_paid_by_calls_that_end_meanwhile() {
    check(|| {
        let gate = gate(2);
        assert!(enter(&gate, 0) && enter(&gate, 1));
        let holder = gate.clone();
        let thread = loom::thread::spawn(move || {
            exit(&holder, 1);
            exit(&holder, 0);
        });
        gate.set_limit(1);
        gate.attend(0, NOW);
        thread.join().unwrap();
        assert_at_rest(&gate, 1);
    });
}

#[test]
fn a_higher_limit_lets_in_one_who_joins_meanwhile() {
    check(|| {
        let gate = gate(1);
        assert!(enter(&gate, 0));
        let other = gate.clone();
        let thread = loom::thread::spawn(move || wait(&other, 1));
        gate.set_limit(2);
        gate.attend(0, NOW);
        thread.join().unwrap();
        exit(&gate, 0);
        exit(&gate, 1);
        assert_at_rest(&gate, 2);
    });
}
