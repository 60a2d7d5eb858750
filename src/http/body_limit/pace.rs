//! How a body comes in, beside what is asked of it: pure.

use super::BodyLimit;
use crate::clock::Time;
use std::time::Duration;

/// A minimum of bytes per second, as an average over windows of time.
///
/// Only the time in which the body is waited for counts, until its reader is woken: a reader that
/// takes its time is not the sender's slowness. After each window of such time the bytes of that
/// window are looked at, and fewer than the rate asks for cut the body off. Nothing is looked at
/// before the first window is over, so the window is also the grace period.
///
/// The default window is 5 s: long enough for a lost packet to be sent again, and for a sender that
/// writes in bursts. A body that stops is noticed within two windows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[doc(alias("min_data_rate", "slowloris"))]
pub struct MinRate {
    bytes_per_second: u64,
    window: Duration,
}

impl MinRate {
    /// Creates a minimum of so many bytes per second, over windows of 5 s. With 0, no body is too
    /// slow.
    pub const fn per_second(bytes: u64) -> Self {
        Self {
            bytes_per_second: bytes,
            window: Duration::from_secs(5),
        }
    }

    /// Sets the length of the windows, which is also the grace period: at least a millisecond.
    #[must_use]
    pub const fn averaged_over(self, window: Duration) -> Self {
        const LEAST: Duration = Duration::from_millis(1);
        let window = if window.as_nanos() < LEAST.as_nanos() {
            LEAST
        } else {
            window
        };
        Self { window, ..self }
    }

    /// Returns whether that many bytes are too few for this time.
    fn is_missed(self, bytes: u64, time: Duration) -> bool {
        // Below 2^128: both factors are below 2^64 and 2^94, and the time is at most a few windows
        // that somebody has waited for.
        let wanted = u128::from(self.bytes_per_second).saturating_mul(time.as_nanos());
        u128::from(bytes).saturating_mul(1_000_000_000) < wanted
    }
}

/// What is asked of how a body comes in, and how far that has been kept to.
///
/// # Invariants
/// 1. Time counts only between a poll that found nothing and the next frame. For the rate it ends
///    when the reader is woken, and goes on with the poll after that, if there is still nothing.
/// 2. A frame without data is no sign of life.
#[derive(Debug)]
pub(super) struct Pace {
    idle: Option<Duration>,
    rate: Option<MinRate>,
    /// Since when there has been nothing, while the body is waited for.
    idle_since: Option<Time>,
    /// Since when there has been nothing in this window of the rate.
    since: Option<Time>,
    /// Time waited for in this window before that, and what came in it.
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(idle: Option<Duration>, rate: Option<MinRate>) -> Self {
        Self {
            idle,
            rate: rate.filter(|rate| rate.bytes_per_second > 0),
            idle_since: None,
            since: None,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Returns whether it matters when the body is woken.
    pub(super) fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// Returns whether anything is asked.
    pub(super) fn is_some(&self) -> bool {
        self.idle.is_some() || self.rate.is_some()
    }

    /// Notes that the body was woken at this time: what its reader does until it polls again is not
    /// the sender's slowness.
    pub(super) fn on_woken(&mut self, at: Time) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(at.since(since));
        }
    }

    /// Notes that a frame came, with so much data. The time is asked for only if it matters.
    pub(super) fn on_frame(&mut self, bytes: usize, now: impl FnOnce() -> Time) {
        if bytes > 0 {
            self.idle_since = None;
        }
        if self.rate.is_some() {
            self.bytes = self.bytes.saturating_add(bytes as u64);
            if self.since.is_some() {
                self.on_woken(now());
            }
        }
    }

    /// Notes that there is nothing now, and returns when that will be too long, or which limit it
    /// has missed.
    pub(super) fn on_pending(&mut self, now: Time) -> Result<Option<Time>, BodyLimit> {
        let idle_since = *self.idle_since.get_or_insert(now);
        let idle_until = self.idle.map(|idle| idle_since.after(idle));
        if idle_until.is_some_and(|until| until <= now) {
            return Err(BodyLimit::Idle);
        }
        let Some(rate) = self.rate else {
            return Ok(idle_until);
        };
        let since = *self.since.get_or_insert(now);
        let mut waited = self.waited.saturating_add(now.since(since));
        if waited >= rate.window {
            if rate.is_missed(self.bytes, waited) {
                return Err(BodyLimit::Rate);
            }
            // The next window.
            waited = Duration::ZERO;
            (self.since, self.waited, self.bytes) = (Some(now), waited, 0);
        }
        let window_until = now.after(rate.window.saturating_sub(waited));
        Ok(Some(
            idle_until.map_or(window_until, |until| until.min(window_until)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn idle_counts_from_the_first_poll_in_vain_and_only_data_ends_it() {
        let mut pace = Pace::new(Some(SECOND), None);
        assert_eq!(pace.on_pending(at(500)), Ok(Some(at(1_500))));
        pace.on_frame(0, || at(1_400));
        assert_eq!(pace.on_pending(at(1_400)), Ok(Some(at(1_500))));
        pace.on_frame(1, || at(1_450));
        // The reader takes its time, which is not the sender's.
        assert_eq!(pace.on_pending(at(9_000)), Ok(Some(at(10_000))));
        assert_eq!(pace.on_pending(at(10_000)), Err(BodyLimit::Idle));
    }

    #[test]
    fn a_rate_is_asked_of_whole_windows_of_waiting() {
        let mut pace = Pace::new(None, Some(MinRate::per_second(100).averaged_over(SECOND)));
        // A byte every 10 ms is just enough, however long it goes on.
        let mut now = 0;
        for _ in 0..1_000 {
            assert!(pace.on_pending(at(now)).is_ok());
            now += 10;
            pace.on_frame(1, || at(now));
        }
        // Every 11 ms is not.
        let mut pace = Pace::new(None, Some(MinRate::per_second(100).averaged_over(SECOND)));
        let mut now = 0;
        let cut = loop {
            if let Err(limit) = pace.on_pending(at(now)) {
                break limit;
            }
            now += 11;
            pace.on_frame(1, || at(now));
        };
        assert_eq!(cut, BodyLimit::Rate);
        assert!((1_000..1_020).contains(&now), "{now}");
    }

    #[test]
    fn a_rate_asks_nothing_of_the_time_between_a_wake_and_the_poll_after_it() {
        let mut pace = Pace::new(None, Some(MinRate::per_second(100).averaged_over(SECOND)));
        // Half a second for 50 bytes, and an hour until its reader comes.
        assert_eq!(pace.on_pending(at(0)), Ok(Some(at(1_000))));
        pace.on_woken(at(500));
        pace.on_frame(50, || at(3_600_000));
        assert_eq!(pace.on_pending(at(3_600_000)), Ok(Some(at(3_600_500))));
        // Woken for nothing: waited for anew.
        pace.on_woken(at(3_600_200));
        assert_eq!(pace.on_pending(at(7_200_000)), Ok(Some(at(7_200_300))));
        assert_eq!(pace.on_pending(at(7_200_300)), Err(BodyLimit::Rate));
        // Woken before it was found that there was nothing.
        pace.on_woken(at(0));
    }

    #[test]
    fn a_body_that_stops_after_a_burst_is_cut_off_within_two_windows() {
        let mut pace = Pace::new(None, Some(MinRate::per_second(100).averaged_over(SECOND)));
        pace.on_frame(1_000_000, || at(0));
        assert_eq!(pace.on_pending(at(0)), Ok(Some(at(1_000))));
        assert_eq!(pace.on_pending(at(1_000)), Ok(Some(at(2_000))));
        assert_eq!(pace.on_pending(at(2_000)), Err(BodyLimit::Rate));
    }

    #[test]
    fn nothing_overflows_and_zero_is_off() {
        let none = Pace::new(None, Some(MinRate::per_second(0)));
        assert!(!none.is_some());
        for window in [Duration::ZERO, Duration::MAX] {
            let rate = MinRate::per_second(u64::MAX).averaged_over(window);
            let mut pace = Pace::new(Some(Duration::MAX), Some(rate));
            assert!(pace.on_pending(at(1)).is_ok());
            pace.on_frame(usize::MAX, || Time::from_nanos(u64::MAX - 1));
            pace.on_frame(usize::MAX, || Time::from_nanos(u64::MAX - 1));
            let _ = pace.on_pending(Time::from_nanos(u64::MAX - 1));
            let _ = rate.is_missed(u64::MAX, Duration::MAX);
        }
        let mut pace = Pace::new(Some(Duration::ZERO), None);
        assert_eq!(pace.on_pending(at(1)), Err(BodyLimit::Idle));
    }
}
