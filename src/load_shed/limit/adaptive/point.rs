//! What was seen under one limit, and what two of them tell.

use super::super::{ENOUGH, SampleWindow};

#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// How many calls were in flight for those whose latency this is.
    pub(super) n: f64,
    /// Their mean without the slowest tenth, in seconds, and how many they were.
    pub(super) latency: f64,
    pub(super) count: u64,
    pub(super) is_enough: bool,
    /// The mean latency of all, by Little's law: longer than the other where a few are slow.
    pub(super) little: f64,
    /// How they vary, if they are enough to tell.
    pub(super) variation: Option<f64>,
    /// Calls that were answered, per second.
    pub(super) per_second: f64,
    /// The shares of calls that were not answered, of answers that were failures, and of arrivals
    /// that found no permit.
    pub(super) unanswered: f64,
    pub(super) failing: f64,
    pub(super) saturated: f64,
    /// Whether these calls took the last permit, so that `n` is the limit.
    pub(super) at_limit: bool,
}

/// Where the number of calls that the service works on at once lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finding {
    /// At the lower of the limits compared, or below it: calls waited under both.
    Below,
    Between,
    /// At the higher one, or above it: no call waited.
    Above,
    /// They cannot be compared.
    Unclear,
}

impl Point {
    pub(super) fn of(window: &SampleWindow) -> Self {
        // Under a limit of one or two, a few calls are several turns.
        let enough = ENOUGH.min(4 * window.limit as u64);
        let at_limit = window.at_limit.count >= enough;
        let (n, of) = match at_limit {
            true => (window.limit as f64, window.at_limit),
            false => (seconds_or_0(window.mean_in_flight()), window.within),
        };
        let answers = window.completions.saturating_add(window.failures);
        let little = seconds_or_0(window.little());
        Self {
            n,
            latency: seconds_or_0(of.trimmed),
            is_enough: of.count >= if at_limit { enough } else { ENOUGH },
            count: of.count,
            little: if at_limit {
                little.max(seconds_or_0(of.mean))
            } else {
                little
            },
            variation: at_limit.then(|| seconds_or_0(of.variation).min(50.0)),
            per_second: window.completions as f64 / window.seconds().max(1e-9),
            unanswered: window.unanswered(),
            failing: match answers {
                0 => 0.0,
                answers => window.failures as f64 / answers as f64,
            },
            saturated: window.saturated_share,
            at_limit,
        }
    }

    /// Returns where the parallelism lies, and the number itself if it is between the two.
    pub(super) fn compare(below: &Self, above: &Self) -> (Finding, f64) {
        let fewer_lost = above.unanswered - below.unanswered;
        let both_lost = above.unanswered > 0.9 && below.unanswered > 0.9;
        if both_lost || fewer_lost > (0.3 * above.unanswered).max(0.05) {
            return (Finding::Below, below.n.max(1.0));
        }
        let few = !above.is_enough || !below.is_enough;
        if few || above.n < below.n + 0.5 || above.little <= 0.0 {
            return (Finding::Unclear, above.n);
        }
        // If all of what was added only waits, latency grows in proportion.
        let grew = (above.latency - below.latency) / above.little;
        let mut waits = grew * above.n / (above.n - below.n);
        if above.failing > 0.1 && below.per_second > 0.0 && below.n > 0.0 {
            let more = above.per_second / below.per_second - 1.0;
            waits = waits.max(1.0 - more / (above.n / below.n - 1.0));
        }
        let lies = (above.n - waits.clamp(0.0, 1.4) * (above.n - below.n)).max(1.0);
        let finding = match waits {
            w if w > 0.6 => Finding::Below,
            w if w < 0.2 => Finding::Above,
            w if w.is_nan() => Finding::Unclear,
            _ => Finding::Between,
        };
        (finding, lies)
    }
}

/// Returns what can be compared and divided by, or 0.
pub(super) fn seconds_or_0(seconds: f64) -> f64 {
    match seconds.is_finite() && seconds > 0.0 {
        true => seconds,
        false => 0.0,
    }
}
