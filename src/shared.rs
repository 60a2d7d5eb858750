//! A shared pointer whose reference count is not shared.
//!
//! Every call holds on to its policy, and axum clones the service for every request. With one
//! `Arc` both write the same word from every thread: 52 ns a call alone become 228 with two
//! threads. Here each thread has a stripe, an `Arc` of its own to the same value, and clones count
//! on the stripe of the thread that clones.
//!
//! Someone has to keep the stripes alive while the threads that use them hold nothing: they are
//! kept by what they all point to, all but one. That one is the *anchor*, at first the stripe of
//! whoever made the value. When its last pointer goes, its `Arc` drops it, so exactly one thread is
//! told, and that makes another stripe the anchor by letting go of it: one that is in use. If none
//! is, it lets go of all, and the value is dropped then and there. So a pointer's end costs no more
//! than an `Arc`'s, however many policies there are and whoever drops them at the same time.
//!
//! The stripe of an anchor that has gone is made anew when its threads next clone.
//!
//! # Values on the hot path
//!
//! What a call carries from its admission to its end (permits, rejections) is one to three words
//! of eight bytes, and functions that return it are inlined. A value that is returned through
//! memory is written word by word and read back in larger pieces; a processor cannot forward such a
//! read from its store buffer and stalls for longer than most policies' whole decision takes.
//!
//! The same happens to a result whose answer is a word and whose error is larger, if it is moved as
//! a whole: `by_itself` and `ready_apart` move the answer alone.

use std::{
    cell::Cell,
    convert, fmt, mem,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
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

/// Returns this value; whatever it was a part of is not moved in its place.
///
/// Whoever matches on a result and makes the same of its parts is seen through by the compiler: it
/// moves the whole result. It does not look through a pointer to a function before that is decided.
#[inline(always)]
pub(crate) fn by_itself<T>(value: T) -> T {
    let same: fn(T) -> T = convert::identity;
    same(value)
}

/// Ends a poll with this result, whose answer is moved by itself.
#[allow(dead_code)] // which features use it depends on which are on
#[inline(always)]
pub(crate) fn ready_apart<T, E>(result: Result<T, E>) -> Poll<Result<T, E>> {
    match result {
        Ok(answer) => Poll::Ready(Ok(by_itself(answer))),
        Err(error) => Poll::Ready(Err(error)),
    }
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
///
/// # Invariants
/// 1. As long as there is a pointer, a stripe is in use that is not kept, or one is being dropped:
///    whoever drops its last pointer finds the next one.
/// 2. The value is dropped before the drop of its last pointer returns, or before that of another
///    pointer does which is dropped at the same time.
/// 3. No lock is held while the value is dropped.
pub(crate) struct Shared<T>(Arc<Stripe<T>>);

/// Aligned so that the counts, which lie before it, have a cache line of their own.
#[repr(align(128))]
struct Stripe<T> {
    all: Arc<AllStripes<T>>,
    index: usize,
    /// Of a thread's index, the bits that say which stripe is its own.
    mask: usize,
}

/// All stripes of one value, and the value.
struct AllStripes<T> {
    value: T,
    places: OnceLock<Box<[Place<T>]>>,
    /// Those that live though nobody uses them.
    kept: Mutex<Vec<Arc<Stripe<T>>>>,
}

/// Where the threads of an index find their stripe.
struct Place<T> {
    first: Weak<Stripe<T>>,
    /// The one that was made when the first one, as an anchor, had gone.
    later: Mutex<Weak<Stripe<T>>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let mask = stripes() - 1;
        let all = Arc::new(AllStripes {
            value,
            places: OnceLock::new(),
            kept: Mutex::default(),
        });
        let stripe = |index| {
            let all = Arc::clone(&all);
            Arc::new(Stripe { all, index, mask })
        };
        let mut stripes: Vec<_> = (0..=mask).map(stripe).collect();
        let place = |stripe| Place {
            first: Arc::downgrade(stripe),
            later: Mutex::default(),
        };
        let _ = all.places.set(stripes.iter().map(place).collect());
        let anchor = stripes.swap_remove(thread_index() & mask);
        *lock(&all.kept) = stripes;
        Self(anchor)
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        let stripe = &self.0;
        let index = thread_index() & stripe.mask;
        if index != stripe.index
            && let Some(place) = stripe.all.places.get().and_then(|all| all.get(index))
        {
            return Self(match place.first.upgrade() {
                Some(own) => own,
                None => stripe.later(place, index),
            });
        }
        Self(Arc::clone(stripe))
    }
}

impl<T> Stripe<T> {
    /// Returns the stripe of an index whose first one has gone.
    #[cold]
    #[inline(never)]
    fn later(&self, place: &Place<T>, index: usize) -> Arc<Self> {
        let mut later = lock(&place.later);
        if let Some(own) = later.upgrade() {
            return own;
        }
        let own = Arc::new(Self {
            all: Arc::clone(&self.all),
            index,
            mask: self.mask,
        });
        *later = Arc::downgrade(&own);
        drop(later);
        // This stripe is in use, so there is an anchor, which will find the new one.
        lock(&self.all.kept).push(Arc::clone(&own));
        own
    }
}

/// The end of an anchor, or of a stripe that is not kept any more.
impl<T> Drop for Stripe<T> {
    #[cold]
    fn drop(&mut self) {
        let mut kept = lock(&self.all.kept);
        // One that is about to be left may seem to be in use: then letting go of it drops it, and
        // this is called again. One that seems unused may be about to be cloned: then it is let go
        // of with all others, and dropped with its last pointer.
        let in_use = kept.iter().position(|stripe| Arc::strong_count(stripe) > 1);
        let (anchor, all) = match in_use {
            Some(at) => (Some(kept.swap_remove(at)), Vec::new()),
            None => (None, mem::take(&mut *kept)),
        };
        drop(kept);
        drop((anchor, all));
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0.all.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
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
            assert_eq!(dropped.load(Relaxed), n + 1);
        }
        drop(held);
        assert_eq!(dropped.load(Relaxed), 1_010);
    }

    #[test]
    fn a_value_whose_last_pointers_go_at_once_is_dropped_by_one_of_them() {
        // Two or three threads, on stripes of their own or all on that of whoever made the value.
        for n in 0..2_000 {
            let (threads, own) = (2 + n % 2, n % 4 < 2);
            let dropped = Arc::new(AtomicUsize::new(0));
            let shared = Shared::new(Counted(dropped.clone()));
            let barrier = std::sync::Barrier::new(threads);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    let (shared, barrier) = (shared.clone(), &barrier);
                    scope.spawn(move || {
                        let last = match own {
                            true => shared.clone(),
                            false => Shared(Arc::clone(&shared.0)),
                        };
                        drop(shared);
                        barrier.wait();
                        drop(last);
                    });
                }
                drop(shared);
            });
            assert_eq!(dropped.load(Relaxed), 1, "{n}");
        }
    }

    #[test]
    fn pointers_that_are_cloned_while_others_go_keep_their_value() {
        // A value that is handed on: on no thread is there a pointer for long.
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut shared = Shared::new(Counted(dropped.clone()));
        for _ in 0..200 {
            shared = std::thread::scope(|scope| {
                let next = scope.spawn(|| shared.clone());
                scope.spawn(|| drop(shared.clone()));
                let next = next.join().unwrap();
                assert_eq!(dropped.load(Relaxed), 0);
                next
            });
        }
        drop(shared);
        assert_eq!(dropped.load(Relaxed), 1);
    }

    #[test]
    fn a_value_dropped_by_a_thread_that_ends_is_dropped() {
        thread_local!(static LAST: Cell<Option<Shared<Counted>>> = const { Cell::new(None) });
        let dropped = Arc::new(AtomicUsize::new(0));
        for own in [true, false] {
            let shared = Shared::new(Counted(dropped.clone()));
            let before = dropped.load(Relaxed);
            // A join waits for the destructors of the thread, and the end of a scope does not.
            let thread = std::thread::spawn(move || {
                LAST.set(Some(match own {
                    true => shared.clone(),
                    false => shared,
                }));
            });
            thread.join().unwrap();
            assert_eq!(dropped.load(Relaxed), before + 1);
        }
    }

    #[test]
    #[cfg(feature = "circuit-breaker")]
    fn a_policy_and_its_call_may_end_with_their_thread() {
        use crate::circuit_breaker::CircuitBreaker;
        use std::{
            cell::RefCell,
            future::{Future, pending},
            pin::Pin,
            task::{Context, Waker},
        };
        type Call = Pin<Box<dyn Future<Output = ()>>>;
        thread_local!(static CALL: RefCell<Option<Call>> = const { RefCell::new(None) });
        let thread = std::thread::spawn(|| {
            let breaker = CircuitBreaker::new("db");
            let mut call: Call = Box::pin(async move {
                let _: Result<(), crate::Rejected> = breaker.run(pending).await;
            });
            let mut cx = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_pending());
            CALL.set(Some(call));
        });
        // A panic in a thread's destructor would end the process.
        thread.join().unwrap();
    }

    /// Runs this on a thread of that index.
    fn on_index<T: Send>(index: usize, f: impl Fn() -> T + Sync) -> T {
        let of_index = || (thread_index() & (stripes() - 1) == index).then(&f);
        loop {
            let on_thread = std::thread::scope(|scope| scope.spawn(of_index).join().unwrap());
            if let Some(found) = on_thread {
                return found;
            }
        }
    }

    #[test]
    fn threads_share_no_count_and_an_anchor_that_goes_is_replaced() {
        let shared = Shared::new(0);
        let other = (shared.0.index + 1) % stripes();
        let elsewhere = on_index(other, || {
            drop(shared.clone());
            shared.clone()
        });
        assert_eq!(elsewhere.0.index, other);
        assert_eq!(Arc::strong_count(&shared.0), 1, "the anchor is not kept");
        assert_eq!(Arc::strong_count(&elsewhere.0), 2);
        assert_eq!(lock(&shared.0.all.kept).len(), stripes() - 1);
        let index = shared.0.index;
        drop(shared);
        assert_eq!(Arc::strong_count(&elsewhere.0), 1, "now this one is");
        assert_eq!(lock(&elsewhere.0.all.kept).len(), stripes() - 2);
        // Threads of the index that is lost have a stripe of their own again.
        for _ in 0..2 {
            let found = on_index(index, || {
                let clone = elsewhere.clone();
                (clone.0.index, Arc::strong_count(&clone.0))
            });
            assert_eq!(found, (index, 2));
        }
        assert_eq!(lock(&elsewhere.0.all.kept).len(), stripes() - 1);
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
}
