//! The generic cell rate algorithm: one moment per key, no window.
//!
//! ATM Forum, *Traffic Management Specification 4.0* (1996), section 4.4.2, in its virtual
//! scheduling form: each admission moves a *theoretical arrival time* (`tat`) on by one interval,
//! and a call is admitted if that time is not further ahead than the burst allows.

use super::status::RemainingQuota;

/// One call per `interval` nanoseconds, `burst` of them at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gcra {
    pub(super) interval: u64,
    pub(super) burst: u32,
}

impl Gcra {
    /// Makes the interval that fits `quota` calls into a window, rounded up to a whole nanosecond:
    /// slower rather than faster.
    pub(super) fn new(quota: u32, window: u64, burst: u32) -> Self {
        debug_assert!(quota > 0, "no interval has no call in it");
        Self {
            interval: window.div_ceil(u64::from(quota).max(1)),
            burst,
        }
    }

    /// Returns the arrival time under another pace, at which what has been taken is made up for: a
    /// raised quota would otherwise let nobody in for as long as the old one wanted, and a lowered
    /// one a second burst.
    pub(super) fn at_the_pace_of(self, other: Self, tat: u64, now: u64) -> u64 {
        let Some(ahead) = tat.checked_sub(now) else {
            return tat;
        };
        let ahead = u128::from(ahead) * u128::from(other.interval);
        let ahead = ahead.div_ceil(u128::from(self.interval.max(1)));
        now.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX))
    }

    /// Returns how far ahead the theoretical arrival time may be after a call.
    fn tolerance(self) -> u64 {
        self.interval.saturating_mul(self.burst.into())
    }

    /// Returns the theoretical arrival time after this call, or when it would be admitted, or
    /// `None` for never.
    #[inline]
    pub(super) fn take(self, tat: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        if cost > self.burst {
            return Err(None);
        }
        let more = self.interval.saturating_mul(cost.into());
        // A time that cannot be told is no reason to admit.
        let next = tat.max(now).checked_add(more).ok_or(None)?;
        match next.saturating_sub(self.tolerance()) {
            at if at <= now => Ok(next),
            at => Err(Some(at)),
        }
    }

    /// Returns when `cost` in all is admitted, burst by burst.
    pub(super) fn admits_at(self, tat: u64, cost: u64, now: u64) -> u64 {
        let next = tat
            .max(now)
            .saturating_add(self.interval.saturating_mul(cost));
        next.saturating_sub(self.tolerance()).max(now)
    }

    /// Returns the arrival time that leaves half of the burst, rounded up.
    pub(super) fn half(self, now: u64) -> u64 {
        let half = u64::from(self.burst / 2);
        now.saturating_add(self.interval.saturating_mul(half))
    }

    /// Returns the arrival time from before the admission that made it `at`.
    ///
    /// Only the newest admission can be taken back: of older ones the time does not tell how much
    /// has been made up for since, and a guess could admit more than the burst.
    #[inline]
    pub(super) fn give_back(self, tat: u64, at: u64, cost: u32) -> Option<u64> {
        (tat == at).then(|| at.saturating_sub(self.interval.saturating_mul(cost.into())))
    }

    /// Returns the arrival time after a cost that is known afterwards, whether it fits or not.
    pub(super) fn charge(self, tat: u64, cost: u32, now: u64) -> u64 {
        let more = self.interval.saturating_mul(cost.into());
        tat.max(now).saturating_add(more)
    }

    /// Returns the arrival time without a part of what was charged or admitted.
    pub(super) fn refund(self, tat: u64, cost: u32) -> u64 {
        tat.saturating_sub(self.interval.saturating_mul(cost.into()))
    }

    pub(super) fn status(self, tat: u64, now: u64, quota: u64) -> RemainingQuota {
        let (remaining, mut reset) = self.remaining(tat, now);
        let beyond = tat.saturating_sub(now).saturating_sub(self.tolerance());
        if beyond > 0 {
            reset = beyond.saturating_add(self.interval);
        }
        RemainingQuota {
            quota,
            remaining: remaining.into(),
            debt: beyond.div_ceil(self.interval.max(1)),
            reset,
        }
    }

    /// Returns how much of the burst remains, and in how many nanoseconds there is one more.
    pub(super) fn remaining(self, tat: u64, now: u64) -> (u32, u64) {
        let ahead = tat.saturating_sub(now);
        let room = self.tolerance().saturating_sub(ahead);
        let remaining = (room / self.interval.max(1)).min(self.burst.into());
        let reset = match ahead {
            0 => 0,
            _ => self.interval.saturating_mul(remaining + 1) - room,
        };
        (remaining as u32, reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_call_per_interval() {
        let gcra = Gcra::new(10, 100, 2);
        let tat = gcra.take(0, 1, 1_000).unwrap();
        let tat = gcra.take(tat, 1, 1_000).unwrap();
        assert_eq!(gcra.remaining(tat, 1_003), (0, 7));
        assert_eq!(gcra.take(tat, 1, 1_000), Err(Some(1_010)));
        assert_eq!(gcra.take(tat, 1, 1_009), Err(Some(1_010)));
        assert_eq!(gcra.take(tat, 1, 1_010), Ok(1_030));
        assert_eq!(gcra.take(tat, 3, 9_999), Err(None));
        assert_eq!(gcra.remaining(tat, 9_999), (2, 0));
    }

    #[test]
    fn only_the_newest_admission_is_taken_back() {
        let gcra = Gcra::new(10, 100, 1);
        let a = gcra.take(0, 1, 0).unwrap();
        assert_eq!(gcra.give_back(a, a, 1), Some(0));
        let b = gcra.take(a, 1, 100).unwrap();
        assert_eq!(gcra.give_back(b, a, 1), None);
    }

    #[test]
    fn the_end_of_time_admits_nothing() {
        let gcra = Gcra::new(1, 1 << 40, u32::MAX);
        assert_eq!(gcra.take(0, 1, u64::MAX), Err(None));
        assert_eq!(gcra.take(u64::MAX, 1, 0), Err(None));
        let _ = (
            gcra.remaining(u64::MAX, 0),
            gcra.admits_at(u64::MAX, u64::MAX, 7),
        );
    }
}
