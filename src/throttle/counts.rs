//! What a throttle counts of its calls.

use crate::{
    clock::{Time, nanos},
    sliding_window::SlidingWindow,
    striped::StripedCounter,
};
use std::time::Duration;

/// Calls of the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Recent {
    /// All, those held back included.
    pub(super) calls: u64,
    pub(super) accepted: u64,
}

#[derive(Debug)]
pub(super) struct ThrottleCounts {
    window: SlidingWindow<2>,
    /// Calls that the service refused.
    pub(super) overloaded_total: StripedCounter,
    /// Calls held back.
    pub(super) rejected_total: StripedCounter,
}

/// The kinds of the window's counts.
const ACCEPTED: usize = 0;
/// By the service, or held back.
const REFUSED: usize = 1;

impl ThrottleCounts {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(window: Duration, stripes: usize) -> Self {
        Self {
            window: SlidingWindow::new(nanos(window), stripes),
            overloaded_total: StripedCounter::default(),
            rejected_total: StripedCounter::default(),
        }
    }

    #[inline]
    pub(super) fn accepted(&self, now: Time) {
        self.window.count(ACCEPTED, now, one_more);
    }

    pub(super) fn overloaded(&self, now: Time) {
        self.window.count(REFUSED, now, one_more);
        self.overloaded_total.add(1);
    }

    pub(super) fn held_back(&self, now: Time) {
        self.window.count(REFUSED, now, one_more);
        self.rejected_total.add(1);
    }

    /// Returns the calls that ended in the window.
    pub(super) fn recent(&self, now: Time) -> Recent {
        let mut recent = Recent::default();
        for [accepted, refused] in self.window.counts(now) {
            recent.calls += accepted + refused;
            recent.accepted += accepted;
        }
        recent
    }

    /// Returns when what is counted now will have left the window.
    pub(super) fn gone_after(&self, now: Time) -> Time {
        self.window.forgotten_at(now)
    }

    /// Returns the longest that [`gone_after`](Self::gone_after) can lie ahead.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_nanos(self.window.longest())
    }

    /// Returns the number of this hundredth of the window. It repeats after 2^32 of them: 5 days
    /// with a window of 10 ms.
    pub(super) fn hundredth(&self, now: Time) -> u32 {
        (now.0 / (self.window.tenth() / 10).max(1)) as u32
    }
}

/// A million million calls in a tenth of a window are not to be had, so nothing overflows.
#[inline]
fn one_more(count: u64) -> u64 {
    count + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_those_that_the_service_took_and_those_that_it_was_spared() {
        let counts = ThrottleCounts::new(Duration::from_nanos(1_000), 1);
        counts.accepted(Time(0));
        counts.overloaded(Time(99));
        counts.held_back(Time(100));
        let recent = |t| {
            let recent = counts.recent(Time(t));
            (recent.calls, recent.accepted)
        };
        assert_eq!(recent(999), (3, 1));
        assert_eq!(recent(1_000), (1, 0));
        assert_eq!(recent(1_100), (0, 0));
        assert_eq!(counts.overloaded_total.sum(), 1);
        assert_eq!(counts.rejected_total.sum(), 1);
        assert_eq!(counts.gone_after(Time(100)), Time(1_100));
        let hundredths = [0, 9, 10, 999].map(|t| counts.hundredth(Time(t)));
        assert_eq!(hundredths, [0, 0, 1, 99]);
    }
}
