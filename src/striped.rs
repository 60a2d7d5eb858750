//! Values that every thread has a part of for itself.
//!
//! A word that all threads write costs each of them more than most policies' whole decision. What
//! is written often and read seldom is kept in stripes instead: a thread writes its own, and a
//! reader adds them up.

use crate::shared::{Padded, stripes, thread_index};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One `T` for each stripe, on a cache line of its own.
///
/// # Invariants
/// 1. The number of stripes is a power of two, so that a thread finds its own with a mask.
#[derive(Debug)]
pub(crate) struct Striped<T>(Box<[Padded<T>]>);

impl<T> Striped<T> {
    /// Makes that many stripes, which must be a power of two.
    pub(crate) fn new(stripes: usize, value: impl FnMut(usize) -> T) -> Self {
        debug_assert!(stripes.is_power_of_two(), "{stripes} stripes");
        Self((0..stripes).map(value).map(Padded).collect())
    }

    /// Returns the stripe of this thread. Threads with the same index modulo the number of stripes
    /// share one.
    #[inline]
    pub(crate) fn own(&self) -> &T {
        self.at(thread_index())
    }

    /// Returns the stripe of the thread with this index.
    #[inline]
    pub(crate) fn at(&self, thread_index: usize) -> &T {
        &self.0[thread_index & (self.0.len() - 1)].0
    }

    /// Returns all stripes, to be added up.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }
}

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self::new(stripes(), |_| T::default())
    }
}

/// A count that is as cheap to raise on many threads as on one.
#[derive(Debug, Default)]
pub(crate) struct StripedCounter(Striped<AtomicU64>);

impl StripedCounter {
    /// Raises the count, and returns what this thread's stripe was before.
    #[inline]
    pub(crate) fn add(&self, n: u64) -> u64 {
        self.0.own().fetch_add(n, Relaxed)
    }

    /// Returns the sum of all stripes. Raises that race with it may or may not be in it.
    pub(crate) fn sum(&self) -> u64 {
        let stripes = self.0.iter().map(|count| count.load(Relaxed));
        stripes.fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_adds_up_and_each_sees_its_own_stripe() {
        let (counter, each) = (StripedCounter::default(), 1_000);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..each {
                        counter.add(2);
                    }
                });
            }
        });
        assert_eq!(counter.sum(), 5 * each * 2);
        let before = counter.add(1);
        assert_eq!(counter.add(1), before + 1);
    }

    #[test]
    fn every_thread_index_has_a_stripe() {
        let striped = Striped::new(4, |i| i);
        assert_eq!([0, 3, 4, usize::MAX].map(|i| *striped.at(i)), [0, 3, 0, 3]);
        assert_eq!(striped.iter().count(), 4);
        assert!(*striped.own() < 4);
    }
}
