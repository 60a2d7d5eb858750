//! The calls over which rates are taken.

use super::{
    config::Size,
    count_window::CountWindow,
    time_window::{TimeWindow, WindowCounts},
    totals::Totals,
};
use crate::clock::Time;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) enum Window {
    Time(TimeWindow),
    Count(CountWindow),
}

impl Window {
    /// Makes that many stripes, which must be a power of two, for a window in time.
    pub(super) fn new(size: Size, stripes: usize) -> Self {
        match size {
            Size::Time(window) => Self::Time(TimeWindow::new(window, stripes)),
            Size::Count(calls) => Self::Count(CountWindow::new(calls)),
        }
    }

    /// Counts a call, here and in the totals. True if others may have left the window unnoticed.
    pub(super) fn add(&self, failed: bool, slow: bool, totals: &Totals, now: Time) -> bool {
        match self {
            Self::Time(window) if slow => window.add_slow(failed, totals, now),
            Self::Time(window) => window.add(failed, totals, now),
            Self::Count(window) => {
                window.add(failed, slow);
                let own = totals.own();
                let total = if failed {
                    &own.failures
                } else {
                    &own.successes
                };
                total.fetch_add(1, Relaxed);
                false
            }
        }
    }

    pub(super) fn counts(&self, now: Time) -> WindowCounts {
        match self {
            Self::Time(window) => window.counts(now),
            Self::Count(window) => window.counts(),
        }
    }

    /// Returns the calls over which rates are taken: a window in time reaches back for its minimum.
    /// Also returns whether it does.
    pub(super) fn counts_of_at_least(&self, minimum: u64, now: Time) -> (WindowCounts, bool) {
        match self {
            Self::Time(window) => window.counts_of_at_least(minimum, now),
            Self::Count(window) => (window.counts(), false),
        }
    }

    /// Returns the successes and failures that the totals do not hold yet.
    pub(super) fn unfolded(&self) -> (u64, u64) {
        match self {
            Self::Time(window) => window.unfolded(),
            Self::Count(_) => (0, 0),
        }
    }

    /// Forgets all calls; the totals do not.
    pub(super) fn clear(&self, totals: &Totals) {
        match self {
            Self::Time(window) => window.clear(totals),
            Self::Count(window) => window.clear(),
        }
    }
}
