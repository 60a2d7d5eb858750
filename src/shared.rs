//! A shared pointer whose reference count is not shared.
//!
//! Every call holds on to its policy, and axum clones the service for every request. With one
//! `Arc` both write the same word from every thread: 52 ns a call alone become 228 with two
//! threads. Here each thread has a stripe, an `Arc` of its own to the same value, and clones count
//! on the stripe of the thread that clones.
//!
//! Someone has to keep the stripes alive while the thread that uses them holds nothing: a list that
//! the process keeps. Whoever drops the last pointer of a stripe looks whether another stripe is in
//! use, first at the one that was when somebody looked last; that costs a read of a word that is
//! hardly ever written. If none is, the list lets go, and the value is dropped then and there.
//!
//! Two threads that drop the last two pointers in the same instant may each see the other's. Then
//! the value is let go together with the next one, or when the list has doubled.
//!
//! # Values on the hot path
//!
//! What a call carries from its admission to its end (permits, rejections) is one to three words
//! of eight bytes, and functions that return it are inlined. A value that is returned through
//! memory is written word by word and read back in larger pieces; a processor cannot forward such a
//! read from its store buffer and stalls for longer than most policies' whole decision takes.

use std::{
    cell::Cell,
    fmt, mem,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::available_parallelism,
};

/// Locks a mutex, even if a thread panicked while it held it.
///
/// For data that a panic under the lock leaves usable, as all of this crate's is: a policy must go
/// on deciding after one of its calls has panicked.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a value on a cache line (and its prefetched neighbour) of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// This thread's number: which stripe it uses. No other thread has or had it.
#[inline]
pub(crate) fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
    match INDEX.get() {
        usize::MAX => {
            let index = NEXT.fetch_add(1, Relaxed);
            INDEX.set(index);
            index
        }
        index => index,
    }
}

/// How many stripes are worth having: a power of two, twice the cores, so that few of the
/// busy threads meet.
pub(crate) fn stripes() -> usize {
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        let cores = available_parallelism().map_or(4, |n| n.get());
        (2 * cores).next_power_of_two().clamp(4, 64)
    })
}

/// A shared value that is as cheap to clone on many threads as on one.
pub(crate) struct Shared<T>(Arc<Stripe<T>>);

/// Aligned so that the counts, which lie before it, have a cache line of their own.
#[repr(align(128))]
struct Stripe<T> {
    value: Arc<T>,
    index: usize,
    /// Of a thread's index, the bits that say which stripe is its own.
    mask: usize,
    peers: Arc<OnceLock<Peers<T>>>,
}

/// All stripes of one value.
struct Peers<T> {
    stripes: Box<[Weak<Stripe<T>>]>,
    /// What a pointer holds that has left its stripe and is being dropped.
    leaving: Weak<Stripe<T>>,
    /// A stripe that was in use when somebody looked last.
    in_use: AtomicUsize,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let (value, peers) = (Arc::new(value), Arc::new(OnceLock::new()));
        let mask = stripes() - 1;
        let stripe = |index| {
            let (value, peers) = (Arc::clone(&value), Arc::clone(&peers));
            Arc::new(Stripe {
                value,
                index,
                mask,
                peers,
            })
        };
        let all: Box<[_]> = (0..=mask).map(stripe).collect();
        let leaving = stripe(all.len());
        let index = thread_index() & mask;
        let _ = peers.set(Peers {
            stripes: all.iter().map(Arc::downgrade).collect(),
            leaving: Arc::downgrade(&leaving),
            in_use: AtomicUsize::new(index),
        });
        let own = Self(Arc::clone(&all[index]));
        keep(Box::new(AllStripes {
            stripes: all,
            _leaving: leaving,
        }));
        own
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        let stripe = &self.0;
        let index = thread_index() & stripe.mask;
        if index != stripe.index
            && let Some(peers) = stripe.peers.get()
            && let Some(own) = peers.stripes.get(index).and_then(Weak::upgrade)
        {
            return Self(own);
        }
        Self(Arc::clone(stripe))
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        // The list's and this one.
        if Arc::strong_count(&self.0) == 2 {
            self.leave();
        }
    }
}

impl<T> Shared<T> {
    /// Leaves a stripe that nobody uses then, and has the list let go of the value if no other one
    /// is in use.
    #[cold]
    #[inline(never)]
    fn leave(&mut self) {
        let stripe = &self.0;
        let is_another_in_use = stripe.peers.get().is_some_and(|peers| {
            let at = peers.in_use.load(Relaxed);
            at != stripe.index && peers.is_in_use(at)
        });
        if !is_another_in_use {
            self.let_go();
        }
    }

    #[cold]
    fn let_go(&mut self) {
        let peers = Arc::clone(&self.0.peers);
        let Some(peers) = peers.get() else {
            return;
        };
        // Round from the last one, so that one that is in use for long is found some day, and kept.
        let (stripes, last) = (peers.stripes.len(), peers.in_use.load(Relaxed));
        let others = (1..=stripes).map(|n| (last + n) % stripes);
        let mut others = others.filter(|at| *at != self.0.index);
        if let Some(at) = others.find(|at| peers.is_in_use(*at)) {
            peers.in_use.store(at, Relaxed);
        } else if let Some(leaving) = peers.leaving.upgrade() {
            // Out of the stripe before the list is looked at: so of two that do this at once, the
            // later one sees that both have left.
            drop(mem::replace(&mut self.0, leaving));
            sweep(0);
        }
    }
}

impl<T> Peers<T> {
    /// Returns whether a pointer holds this stripe, besides the list.
    #[inline]
    fn is_in_use(&self, at: usize) -> bool {
        let stripe = self.stripes.get(at);
        stripe.is_some_and(|stripe| stripe.strong_count() > 1)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What keeps all stripes of one value alive, whatever its type.
trait StripedValue: Send {
    /// Returns whether only the list still points to them.
    fn unused(&self) -> bool;
}

struct AllStripes<T> {
    stripes: Box<[Arc<Stripe<T>>]>,
    _leaving: Arc<Stripe<T>>,
}

impl<T: Send + Sync> StripedValue for AllStripes<T> {
    fn unused(&self) -> bool {
        // A clone that races with this look keeps its own stripe alive and only loses its peers.
        self.stripes
            .iter()
            .all(|stripe| Arc::strong_count(stripe) == 1)
    }
}

struct KeepAlive {
    all: Vec<Box<dyn StripedValue>>,
    sweep_at: usize,
}

static KEPT: Mutex<KeepAlive> = Mutex::new(KeepAlive {
    all: Vec::new(),
    sweep_at: 32,
});

fn keep(stripes: Box<dyn StripedValue>) {
    let mut kept = lock(&KEPT);
    kept.all.push(stripes);
    let sweep_at = kept.sweep_at;
    drop(kept);
    sweep(sweep_at);
}

/// Lets go of what nothing outside of the list points to, if it is at least so long.
fn sweep(at: usize) {
    let mut kept = lock(&KEPT);
    if kept.all.len() < at {
        return;
    }
    let (unused, used): (Vec<_>, Vec<_>) = kept.all.drain(..).partition(|value| value.unused());
    kept.sweep_at = (2 * used.len()).max(32);
    kept.all = used;
    // A policy's drop may run the application's code, which may make another policy.
    drop(kept);
    drop(unused);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn clones_made_on_other_threads_point_to_the_same_value() {
        let shared = Shared::new(AtomicUsize::new(0));
        std::thread::scope(|s| {
            for _ in 0..9 {
                s.spawn(|| shared.clone().fetch_add(1, Relaxed));
            }
        });
        assert_eq!(shared.load(Relaxed), 9);
    }

    /// Waits until so many have been dropped: another test's thread may be at it.
    fn wait_for(dropped: &AtomicUsize, n: usize) {
        while dropped.load(Relaxed) < n {
            std::thread::yield_now();
        }
        assert_eq!(dropped.load(Relaxed), n);
    }

    #[test]
    fn a_value_is_dropped_with_its_last_pointer_on_whichever_thread_that_is() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let held: Vec<_> = (0..10)
            .map(|_| Shared::new(Counted(dropped.clone())))
            .collect();
        for n in 0..1_000 {
            let shared = Shared::new(Counted(dropped.clone()));
            let clone = shared.clone();
            // Whoever goes first, and on whichever stripe.
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let local = clone.clone();
                    drop(clone);
                    local
                });
                let local = thread.join().unwrap();
                assert_eq!(dropped.load(Relaxed), n);
                if n % 2 == 0 {
                    drop(shared);
                    assert_eq!(dropped.load(Relaxed), n);
                    scope.spawn(|| drop(local));
                } else {
                    drop(local);
                    assert_eq!(dropped.load(Relaxed), n);
                    drop(shared);
                }
            });
            wait_for(&dropped, n + 1);
        }
        assert!(held.iter().all(|shared| Arc::strong_count(&shared.0) == 2));
        drop(held);
        wait_for(&dropped, 1_010);
    }

    #[test]
    fn a_value_whose_last_two_pointers_go_at_once_is_dropped_with_the_next() {
        let dropped = Arc::new(AtomicUsize::new(0));
        for _ in 0..300 {
            let shared = Shared::new(Counted(dropped.clone()));
            let barrier = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    let (shared, barrier) = (shared.clone(), &barrier);
                    scope.spawn(move || {
                        let local = shared.clone();
                        drop(shared);
                        barrier.wait();
                        drop(local);
                    });
                }
                drop(shared);
            });
        }
        drop(Shared::new(0));
        wait_for(&dropped, 300);
    }

    #[test]
    fn a_value_whose_drop_makes_and_drops_others_is_dropped() {
        struct Nests(usize);
        impl Drop for Nests {
            fn drop(&mut self) {
                if self.0 > 0 {
                    drop(Shared::new(Self(self.0 - 1)).clone());
                }
            }
        }
        drop(Shared::new(Nests(20)));
    }

    #[test]
    fn a_stripe_in_use_is_found_by_all_others_and_remembered() {
        let shared = Shared::new(0);
        let at = || shared.0.peers.get().map(|peers| peers.in_use.load(Relaxed));
        for _ in 0..10 {
            std::thread::scope(|scope| drop(scope.spawn(|| drop(shared.clone()))));
        }
        assert_eq!(at(), Some(shared.0.index));
    }
}
