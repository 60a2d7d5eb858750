//! A sliding window of the last calls, however long they took to come.

use super::time_window::WindowCounts;
use crate::shared::lock;
use std::sync::Mutex;

const FAILED: u8 = 1;
const SLOW: u8 = 2;

/// A ring of results with its sums: the oldest leaves when the newest comes.
///
/// The order of calls is one order for all threads, so this takes a short lock per call; the window
/// in time is the one to use where calls are many.
#[derive(Debug)]
pub(super) struct CountWindow(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    calls: Vec<u8>,
    size: usize,
    /// Where the next result goes once the ring is full.
    oldest: usize,
    sum: WindowCounts,
}

impl CountWindow {
    pub(super) fn new(size: usize) -> Self {
        // Grows as calls come: a window made for a key that is seen once stays small.
        Self(Mutex::new(Ring {
            calls: Vec::new(),
            size: size.max(1),
            oldest: 0,
            sum: WindowCounts::default(),
        }))
    }

    pub(super) fn add(&self, failed: bool, slow: bool) {
        let mut ring = lock(&self.0);
        let ring = &mut *ring;
        let call = if failed { FAILED } else { 0 } | if slow { SLOW } else { 0 };
        if ring.calls.len() < ring.size {
            ring.calls.push(call);
        } else if let Some(place) = ring.calls.get_mut(ring.oldest) {
            let left = std::mem::replace(place, call);
            debug_assert_eq!(ring.sum.calls(), ring.size as u64, "a full ring");
            ring.oldest = (ring.oldest + 1) % ring.size;
            ring.sum.successes -= u64::from(left & FAILED == 0);
            ring.sum.failures -= u64::from(left & FAILED != 0);
            ring.sum.slow -= u64::from(left & SLOW != 0);
        }
        ring.sum.successes += u64::from(!failed);
        ring.sum.failures += u64::from(failed);
        ring.sum.slow += u64::from(slow);
    }

    pub(super) fn counts(&self) -> WindowCounts {
        lock(&self.0).sum
    }

    pub(super) fn clear(&self) {
        let mut ring = lock(&self.0);
        ring.calls.clear();
        ring.oldest = 0;
        ring.sum = WindowCounts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides_call_by_call() {
        let window = CountWindow::new(10);
        for _ in 0..1_000 {
            window.add(false, false);
        }
        for n in 1..=10 {
            window.add(true, n % 2 == 0);
            let sum = window.counts();
            assert_eq!((sum.calls(), sum.failures, sum.slow), (10, n, n / 2));
        }
        window.add(false, false);
        assert_eq!(window.counts().failures, 9);
        window.clear();
        assert_eq!(window.counts(), WindowCounts::default());
        window.add(true, true);
        assert_eq!(window.counts().calls(), 1);
    }
}
