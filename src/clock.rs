//! The only file that reads a clock.
//!
//! Every core takes the time as an argument; what the argument holds comes from here. The clock is
//! tokio's, so `tokio::time::pause` drives the whole crate in tests.
#![allow(clippy::disallowed_methods)]

use std::{cell::Cell, sync::OnceLock, time::Duration};

/// A moment, in nanoseconds since a base that is fixed when the process first reads the clock.
///
/// It follows tokio's clock, which tests can pause. It takes eight bytes, so that it fits an atomic
/// word, and covers 584 years. The default is the base itself, which lies a day before that first
/// read.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub(crate) u64);

impl Time {
    /// Returns the moment this many nanoseconds after the base.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns how many nanoseconds after the base this moment is.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time now.
    #[inline]
    pub fn now() -> Self {
        let since = tokio::time::Instant::now().saturating_duration_since(base());
        // Cheaper than `as_nanos`, which multiplies in 128 bits.
        Self(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
    }

    /// Returns the moment that is `after` later than this one, or the last that can be represented.
    #[inline]
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self(self.0.saturating_add(nanos(after)))
    }

    /// Returns how long after `earlier` this moment is: zero if it is not later.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns this moment as an instant for tokio's timers. It is never later than thirty years
    /// after the base, which is what tokio itself takes for "never".
    pub fn to_instant(self) -> tokio::time::Instant {
        const NEVER: u64 = 30 * 365 * 86_400 * 1_000_000_000;
        base() + Duration::from_nanos(self.0.min(NEVER))
    }
}

impl From<tokio::time::Instant> for Time {
    fn from(instant: tokio::time::Instant) -> Self {
        Self(nanos(instant.saturating_duration_since(base())))
    }
}

/// A duration in nanoseconds, or the most that fits.
#[inline]
pub(crate) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Wall-clock time, for dates that come from other machines (`Retry-After`, deadlines).
#[cfg(feature = "http")]
pub(crate) fn wall_clock() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

fn base() -> tokio::time::Instant {
    static BASE: OnceLock<tokio::time::Instant> = OnceLock::new();
    // The real clock, not tokio's: a paused runtime that had been advanced before its first call
    // would put the base into every other runtime's future.
    // And a day ago, so that the clock of a runtime that was paused before that call is not before
    // the base, where times saturate.
    *BASE.get_or_init(|| {
        let now = std::time::Instant::now();
        let past = now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now);
        tokio::time::Instant::from_std(past)
    })
}

/// The time of one decision, read from the clock when it is first needed and then remembered.
///
/// Reading the clock costs more than everything else that most guards do. So all guards of a tuple
/// share one read, and a guard that needs no time causes none.
#[derive(Debug, Default)]
pub struct Now(Cell<Option<Time>>);

impl Now {
    /// Creates a time that will be read from the clock when it is first needed.
    #[inline]
    pub const fn lazy() -> Self {
        Self(Cell::new(None))
    }

    /// Creates a time that is already known: for tests, and for moments that have been read before.
    #[inline]
    pub const fn at(time: Time) -> Self {
        Self(Cell::new(Some(time)))
    }

    /// Returns the time. Reads the clock if this is the first call.
    #[inline]
    pub fn get(&self) -> Time {
        match self.0.get() {
            Some(time) => time,
            None => {
                let time = Time::now();
                self.0.set(Some(time));
                time
            }
        }
    }

    /// Returns the time if it has been read already, or `None`. Never reads the clock.
    #[inline]
    pub fn peek(&self) -> Option<Time> {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate_instead_of_overflowing() {
        assert_eq!(Time(5).after(Duration::MAX), Time(u64::MAX));
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        let _ = Time(u64::MAX).to_instant();
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_a_paused_runtime_and_now_is_read_once() {
        let now = Now::lazy();
        assert_eq!(now.peek(), None);
        let first = now.get();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(now.get(), first);
        assert_eq!(Time::now().since(first), Duration::from_secs(3));
        assert_eq!(Time::from(first.to_instant()), first);
    }
}
