//! What can be seen of a breaker, beside what the model says.

use super::*;

impl Model {
    /// What can be seen of it must be the same.
    pub(super) fn compare(&self, breaker: &CircuitBreaker, now: Time) -> Result<(), TestCaseError> {
        let seen = breaker.snapshot();
        let (calls, failures, slow) = self.counts(now);
        prop_assert_eq!(seen.state, self.state(now));
        prop_assert_eq!(breaker.state(), self.state(now));
        let mode = match self.phase {
            Phase::ForcedOpen => Mode::ForcedOpen,
            Phase::ForcedClosed => Mode::ForcedClosed,
            _ if self.observing => Mode::ObserveOnly,
            _ => Mode::Automatic,
        };
        prop_assert_eq!(seen.mode, mode);
        prop_assert_eq!(
            (seen.calls, seen.failures, seen.slow_calls),
            (calls, failures, slow)
        );
        prop_assert_eq!(seen.consecutive_failures, self.in_a_row);
        prop_assert_eq!(seen.in_flight_slow, self.in_flight_slow(now));
        prop_assert_eq!(seen.trips_total, self.trips);
        prop_assert_eq!(
            (seen.rejected_total, seen.would_reject_total),
            (self.rejected, self.would_reject)
        );
        let totals = [
            seen.successes_total,
            seen.failures_total,
            seen.slow_calls_total,
        ];
        prop_assert_eq!(totals, self.totals);
        let wait = match self.phase {
            Phase::Open(until) if now < until => Some(until.since(now)),
            Phase::HalfOpen if now < self.row.not_before => Some(self.row.not_before.since(now)),
            _ => None,
        };
        prop_assert_eq!(seen.retry_after, wait);
        let last = *breaker.transitions().borrow();
        prop_assert!(last.epoch <= self.epoch);
        Ok(())
    }
}
