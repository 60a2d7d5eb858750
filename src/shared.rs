//! A shared pointer whose reference count is not shared.
//!
//! Every call holds on to its policy, and axum clones the service for every request. With one
//! `Arc` both write the same word from every thread: 52 ns a call alone become 228 with two
//! threads. Here each thread has a stripe, an `Arc` of its own to the same value, and clones count
//! on the stripe of the thread that clones.
//!
//! Someone has to keep the stripes alive while the thread that uses them holds nothing: a list that
//! the process keeps. Values that nothing outside that list points to are let go when the list has
//! doubled, so what lingers is never more than what lives.
//!
//! # Values on the hot path
//!
//! What a call carries from its admission to its end (permits, rejections) is one to three words
//! of eight bytes, and functions that return it are inlined. A value that is returned through
//! memory is written word by word and read back in larger pieces; a processor cannot forward such a
//! read from its store buffer and stalls for longer than most policies' whole decision takes.

use std::{
    cell::Cell,
    fmt,
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
    peers: Arc<OnceLock<Box<[Weak<Self>]>>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let (value, peers) = (Arc::new(value), Arc::new(OnceLock::new()));
        let stripe = |index| {
            let (value, peers) = (Arc::clone(&value), Arc::clone(&peers));
            Arc::new(Stripe {
                value,
                index,
                peers,
            })
        };
        let all: Box<[_]> = (0..stripes()).map(stripe).collect();
        let _ = peers.set(all.iter().map(Arc::downgrade).collect());
        let own = Self(Arc::clone(&all[thread_index() & (all.len() - 1)]));
        keep(Box::new(all));
        own
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        let stripe = &self.0;
        if let Some(peers) = stripe.peers.get() {
            let index = thread_index() & (peers.len() - 1);
            if index != stripe.index
                && let Some(own) = peers[index].upgrade()
            {
                return Self(own);
            }
        }
        Self(Arc::clone(stripe))
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

/// All stripes of one value, whatever its type.
trait StripedValue: Send {
    /// Whether only the list still points to them.
    fn unused(&self) -> bool;
}

impl<T: Send + Sync> StripedValue for Box<[Arc<Stripe<T>>]> {
    fn unused(&self) -> bool {
        // A clone that races with this look keeps its own stripe alive and only loses its peers.
        self.iter().all(|stripe| Arc::strong_count(stripe) == 1)
    }
}

fn keep(stripes: Box<dyn StripedValue>) {
    struct KeepAlive {
        all: Vec<Box<dyn StripedValue>>,
        sweep_at: usize,
    }
    static KEPT: Mutex<KeepAlive> = Mutex::new(KeepAlive {
        all: Vec::new(),
        sweep_at: 32,
    });
    let mut kept = lock(&KEPT);
    kept.all.push(stripes);
    let unused = if kept.all.len() < kept.sweep_at {
        Vec::new()
    } else {
        let (unused, used): (Vec<_>, Vec<_>) = kept.all.drain(..).partition(|value| value.unused());
        kept.sweep_at = (2 * used.len()).max(32);
        kept.all = used;
        unused
    };
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

    #[test]
    fn values_that_nothing_points_to_are_let_go_and_the_others_are_kept() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let held: Vec<_> = (0..10)
            .map(|_| Shared::new(Counted(dropped.clone())))
            .collect();
        for _ in 0..2_000 {
            drop(Shared::new(Counted(dropped.clone())));
        }
        assert!(dropped.load(Relaxed) > 1_000, "{}", dropped.load(Relaxed));
        assert!(held.iter().all(|shared| Arc::strong_count(&shared.0) == 2));
    }
}
