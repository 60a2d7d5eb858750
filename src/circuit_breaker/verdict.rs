//! What the ends of calls say of the dependency: of one call, and of all in the window.

use super::{config::Config, snapshot::Reason, time_window::WindowCounts};
use crate::{classify::Outcome, guard::End};

/// What the end of a call says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallVerdict {
    Well,
    Unwell,
    Nothing,
}

impl CallVerdict {
    /// Judges an end; `slow` is asked only if it matters.
    pub(super) fn of(end: End, slow: impl FnOnce() -> bool) -> Self {
        match end {
            End::Done(Outcome::Success) => Self::Well,
            End::Done(Outcome::Failure) | End::Panicked | End::TimedOut => Self::Unwell,
            // Its caller waited longer than anybody should: the dependency hangs.
            End::Cancelled if slow() => Self::Unwell,
            End::Cancelled
            | End::RequestFailed
            | End::NeverStarted
            | End::Done(Outcome::Ignored | Outcome::Refused | Outcome::Overloaded { .. }) => {
                Self::Nothing
            }
        }
    }
}

/// What the calls of the window say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RateVerdict {
    /// No rate is over its threshold.
    Below,
    /// A rate is over its threshold, but the calls are too few.
    TooFew,
    /// The circuit has to trip.
    Trip(Reason),
}

impl RateVerdict {
    /// Judges the calls that have ended, and so many that are slow and still running.
    pub(super) fn of(cfg: &Config, counts: WindowCounts, overdue: u64) -> Self {
        // Dividing rounds to the nearest, so 3 of 30 is the same number as 0.1: equal trips.
        let over = |part: u64, calls: u64, limit: Option<f64>| {
            calls > 0 && limit.is_some_and(|limit| part as f64 / calls as f64 >= limit)
        };
        let failing = over(counts.failures, counts.calls(), cfg.failure_rate);
        let (slow, calls) = (counts.slow + overdue, counts.calls() + overdue);
        let dragging = over(slow, calls, cfg.slow_rate);
        if failing && counts.calls() >= cfg.minimum {
            Self::Trip(Reason::FailureRate)
        } else if dragging && calls >= cfg.minimum {
            Self::Trip(Reason::SlowCallRate)
        } else if failing || dragging {
            Self::TooFew
        } else {
            Self::Below
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CircuitBreaker;

    #[test]
    fn reaching_a_rate_is_enough_once_the_minimum_is_reached() {
        let builder = CircuitBreaker::builder("t").failure_rate(0.1);
        let cfg = builder.slow_call_rate(0.5).minimum_calls(30).config();
        let judge = |successes, failures, slow, overdue| {
            let counts = WindowCounts {
                successes,
                failures,
                slow,
            };
            RateVerdict::of(&cfg, counts, overdue)
        };
        assert_eq!(judge(0, 0, 0, 0), RateVerdict::Below);
        assert_eq!(judge(26, 3, 0, 0), RateVerdict::TooFew);
        assert_eq!(judge(27, 3, 0, 0), RateVerdict::Trip(Reason::FailureRate));
        assert_eq!(judge(28, 2, 0, 0), RateVerdict::Below);
        // Calls that are running count for the rate of slow ones, and towards its minimum.
        assert_eq!(judge(15, 0, 0, 14), RateVerdict::Below);
        assert_eq!(judge(14, 0, 0, 15), RateVerdict::TooFew);
        assert_eq!(judge(15, 0, 0, 15), RateVerdict::Trip(Reason::SlowCallRate));
        assert_eq!(judge(29, 1, 15, 0), RateVerdict::Trip(Reason::SlowCallRate));
    }

    #[test]
    fn a_cancelled_call_says_something_only_if_it_was_slow() {
        let ends = [
            (End::Done(Outcome::Success), CallVerdict::Well),
            (End::Done(Outcome::Failure), CallVerdict::Unwell),
            (End::Panicked, CallVerdict::Unwell),
            (End::Done(Outcome::Ignored), CallVerdict::Nothing),
            (End::NeverStarted, CallVerdict::Nothing),
            (
                End::Done(Outcome::Overloaded { retry_after: None }),
                CallVerdict::Nothing,
            ),
        ];
        for (end, verdict) in ends {
            assert_eq!(CallVerdict::of(end, || panic!("asked")), verdict);
        }
        assert_eq!(
            CallVerdict::of(End::Cancelled, || true),
            CallVerdict::Unwell
        );
        assert_eq!(
            CallVerdict::of(End::Cancelled, || false),
            CallVerdict::Nothing
        );
    }
}
