//! When a call will be admitted that stands behind others: arithmetic over several windows.

use super::gcra::Pace;
use std::collections::VecDeque;

/// What a limit has to give, now and later, if nobody else comes.
#[derive(Clone, Debug)]
pub(super) enum Supply {
    Window(Window),
    Pace { pace: Pace, tat: u64, now: u64 },
}

/// A sliding window's admissions, oldest first, as the moments at which they leave it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) now: u64,
    pub(super) quota: u64,
    pub(super) used: u64,
    /// When how much leaves.
    pub(super) leaving: Vec<(u64, u64)>,
    pub(super) span: Span,
}

/// How long an admission counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    /// Exactly this long.
    Exact(u64),
    /// Until the end of its sub-window and `len - 1` more.
    Coarse { sub: u64, len: u64 },
}

impl Span {
    /// When an admission at `at` leaves.
    pub(super) fn leaves(self, at: u64) -> u64 {
        match self {
            Self::Exact(window) => at.saturating_add(window),
            Self::Coarse { sub, len } => (at / sub).saturating_add(len).saturating_mul(sub),
        }
    }

    /// The same, `times` windows on: what leaves is admitted again at once.
    fn leaves_again(self, at: u64, times: u64) -> u64 {
        let Some(more) = times.checked_sub(1) else {
            return at;
        };
        let period = match self {
            Self::Exact(window) => window,
            Self::Coarse { sub, len } => sub.saturating_mul(len),
        };
        self.leaves(at).saturating_add(more.saturating_mul(period))
    }
}

impl Supply {
    /// Whether this cost can be admitted at all.
    pub(super) fn fits(&self, cost: u32) -> bool {
        match self {
            Self::Window(window) => u64::from(cost) <= window.quota,
            Self::Pace { pace, .. } => cost <= pace.burst,
        }
    }

    /// When a call of this cost is admitted behind calls that cost `owed` together, if all of them
    /// cost 1. With other costs it is a lower bound: a call whose cost does not fit yet holds up
    /// those behind it.
    pub(super) fn at_least(&self, owed: u64, cost: u32) -> u64 {
        match self {
            Self::Window(window) => window.unit(owed.saturating_add(cost.into()).max(1) - 1),
            Self::Pace { pace, tat, now } => {
                pace.admits_at(*tat, owed.saturating_add(cost.into()), *now)
            }
        }
    }

    /// The same, exactly, for any costs; walks over all of them. Those that no longer fit will be
    /// refused when their turn comes.
    pub(super) fn exactly(self, costs: impl Iterator<Item = u32>, cost: u32) -> u64 {
        match self {
            Self::Window(window) => {
                let quota = window.quota;
                let fitting = costs.filter(|cost| u64::from(*cost) <= quota);
                window.walk(fitting.chain([cost]))
            }
            Self::Pace { .. } => self.at_least(costs.map(u64::from).sum(), cost),
        }
    }
}

impl Window {
    /// When the unit of this index is given out, counting from now.
    fn unit(&self, index: u64) -> u64 {
        let quota = self.quota.max(1);
        let (windows, index) = (index / quota, index % quota);
        let must_leave = (self.used + index + 1).saturating_sub(quota);
        let mut left = 0;
        let first = match must_leave {
            0 => self.now,
            _ => self
                .leaving
                .iter()
                .find(|(_, amount)| {
                    left += amount;
                    left >= must_leave
                })
                .map_or(self.now, |(at, _)| *at),
        };
        self.span.leaves_again(first.max(self.now), windows)
    }

    fn walk(self, costs: impl Iterator<Item = u32>) -> u64 {
        let (mut now, mut used) = (self.now, self.used);
        let mut leaving = VecDeque::from(self.leaving);
        for cost in costs.map(u64::from) {
            while used + cost > self.quota {
                // Only a cost above the quota finds nothing more to wait for.
                let Some((at, amount)) = leaving.pop_front() else {
                    return u64::MAX;
                };
                now = now.max(at);
                used -= amount.min(used);
            }
            used += cost;
            leaving.push_back((self.span.leaves(now), cost));
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(quota: u64, leaving: &[(u64, u64)]) -> Supply {
        Supply::Window(Window {
            now: 5,
            quota,
            used: leaving.iter().map(|(_, amount)| amount).sum(),
            leaving: leaving.to_vec(),
            span: Span::Exact(10),
        })
    }

    #[test]
    fn a_place_far_behind_is_told_over_several_windows() {
        let supply = window(3, &[(8, 1), (12, 1)]);
        let at = |owed| supply.at_least(owed, 1);
        assert_eq!(
            (0..7).map(at).collect::<Vec<_>>(),
            [5, 8, 12, 15, 18, 22, 25]
        );
        for owed in 0..40 {
            let ones = std::iter::repeat_n(1, owed as usize);
            assert_eq!(supply.clone().exactly(ones, 1), at(owed), "{owed}");
        }
    }

    #[test]
    fn a_cost_that_does_not_fit_holds_up_those_behind_it() {
        let supply = window(3, &[(8, 1), (12, 1)]);
        assert_eq!(supply.clone().exactly([3].into_iter(), 1), 22);
        assert_eq!(supply.clone().exactly([4].into_iter(), 1), 5);
        assert_eq!(supply.exactly([].into_iter(), 2), 8);
    }

    #[test]
    fn a_lowered_quota_has_to_be_worked_off_first() {
        let supply = window(1, &[(8, 2), (12, 1)]);
        assert_eq!(supply.at_least(0, 1), 12);
        assert_eq!(supply.at_least(1, 1), 22);
    }

    #[test]
    fn coarse_admissions_count_until_their_last_sub_window_has_passed() {
        let span = Span::Coarse { sub: 10, len: 5 };
        assert_eq!(span.leaves(19), 60);
        assert_eq!(span.leaves_again(19, 2), 110);
        assert_eq!(span.leaves(u64::MAX), u64::MAX);
    }
}
