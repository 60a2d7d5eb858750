//! What the ends of calls say of the dependency: of one call, and of all in the window.

use super::{
    config::Config, config_ends::AbandonedRule, snapshot::Reason, time_window::WindowCounts,
};
use crate::{classify::Outcome, clock::nanos, guard::End};
use std::time::Duration;

/// What the end of a call says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallVerdict {
    Well,
    Unwell,
    /// It answered, and that says nothing else.
    Answered,
    /// It refused, and asked to be left alone for so long.
    Overloaded(Option<Duration>),
    /// It had not answered by the time that its caller left. What that says depends on how long it
    /// took.
    Abandoned,
    /// It was not asked.
    Unreached,
    Nothing,
}

impl CallVerdict {
    /// Judges an end. If that matters, `limit` is asked how long the limit was that cut the call
    /// off, if it is known, and `took` how long the call was in the service.
    pub(super) fn of(
        end: End,
        rule: AbandonedRule,
        limit: impl FnOnce() -> Option<Duration>,
        took: impl FnOnce() -> u64,
    ) -> Self {
        match end {
            End::Done(Outcome::Success) => Self::Well,
            End::Done(Outcome::Failure) | End::Panicked => Self::Unwell,
            End::Done(Outcome::Ignored) => Self::Answered,
            End::Done(Outcome::Overloaded { retry_after }) => Self::Overloaded(retry_after),
            End::Cancelled => Self::abandoned(rule, took),
            // A limit that other calls had used up, of which the service had less than half, cuts
            // off what a caller who leaves would.
            End::TimedOut => match limit() {
                Some(limit) => {
                    let (took, half) = (took(), nanos(limit) / 2);
                    if took >= half {
                        return Self::Unwell;
                    }
                    Self::abandoned(rule, || took)
                }
                None => Self::Unwell,
            },
            End::NeverStarted | End::Done(Outcome::Refused) => Self::Unreached,
            End::RequestFailed => Self::Nothing,
        }
    }

    fn abandoned(rule: AbandonedRule, took: impl FnOnce() -> u64) -> Self {
        match rule {
            _ if rule.compares() => Self::Abandoned,
            AbandonedRule::After(after) if took() >= after => Self::Unwell,
            _ => Self::Nothing,
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
    fn how_long_a_call_took_is_asked_only_where_a_limit_or_a_rule_makes_it_matter() {
        let rule = AbandonedRule::Silence;
        for (end, verdict) in [
            (End::Done(Outcome::Success), CallVerdict::Well),
            (End::Done(Outcome::Failure), CallVerdict::Unwell),
            (End::Panicked, CallVerdict::Unwell),
            (End::TimedOut, CallVerdict::Unwell),
            (End::Done(Outcome::Ignored), CallVerdict::Answered),
            (End::Cancelled, CallVerdict::Abandoned),
            (End::NeverStarted, CallVerdict::Unreached),
            (End::Done(Outcome::Refused), CallVerdict::Unreached),
            (End::RequestFailed, CallVerdict::Nothing),
            (
                End::Done(Outcome::Overloaded { retry_after: None }),
                CallVerdict::Overloaded(None),
            ),
        ] {
            assert_eq!(
                CallVerdict::of(end, rule, || None, || panic!("asked")),
                verdict
            );
        }
        for (rule, took, verdict) in [
            (AbandonedRule::After(100), 99, CallVerdict::Nothing),
            (AbandonedRule::After(100), 100, CallVerdict::Unwell),
            (AbandonedRule::Never, u64::MAX, CallVerdict::Nothing),
            (AbandonedRule::SilenceOrRate, 0, CallVerdict::Abandoned),
        ] {
            assert_eq!(
                CallVerdict::of(End::Cancelled, rule, || None, || took),
                verdict
            );
        }
    }

    #[test]
    fn a_limit_of_which_the_service_had_less_than_half_says_no_more_than_a_caller_who_leaves() {
        let limit = Some(Duration::from_nanos(1_000));
        for (took, rule, verdict) in [
            (500, AbandonedRule::Silence, CallVerdict::Unwell),
            (499, AbandonedRule::Silence, CallVerdict::Abandoned),
            (499, AbandonedRule::Never, CallVerdict::Nothing),
            (499, AbandonedRule::After(499), CallVerdict::Unwell),
            (500, AbandonedRule::Never, CallVerdict::Unwell),
        ] {
            assert_eq!(
                CallVerdict::of(End::TimedOut, rule, || limit, || took),
                verdict
            );
        }
    }
}
