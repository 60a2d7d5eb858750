//! When a call will be admitted that stands behind others: arithmetic over several windows.

use super::gcra::Gcra;
use std::collections::VecDeque;

/// What a limit has to give, now and later, if nobody else comes.
#[derive(Clone, Debug)]
pub(super) enum CapacityForecast {
    Window(WindowForecast),
    /// Several windows, all of which have to admit a call.
    Windows(Vec<WindowForecast>),
    Gcra {
        gcra: Gcra,
        tat: u64,
        now: u64,
    },
}

/// The admissions that a sliding window holds, oldest first, as the moments at which they leave it.
///
/// # Invariants
/// 1. `used` is the sum of what leaves.
/// 2. The moments ascend.
#[derive(Clone, Debug)]
pub(super) struct WindowForecast {
    pub(super) now: u64,
    pub(super) quota: u64,
    pub(super) used: u64,
    /// What has been charged beyond the quota, and is made up for before anything is admitted.
    pub(super) debt: u64,
    /// When how much leaves.
    pub(super) leaving: Vec<(u64, u64)>,
    pub(super) counted_for: CountedFor,
}

/// How long an admission counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum CountedFor {
    /// Exactly one window of this length.
    Window(u64),
    /// Until the end of its sub-window and of `count - 1` more.
    SubWindows { length: u64, count: u64 },
}

impl CountedFor {
    /// Returns when an admission at `at` leaves.
    pub(super) fn leaves(self, at: u64) -> u64 {
        match self {
            Self::Window(window) => at.saturating_add(window),
            Self::SubWindows { length, count } => {
                (at / length).saturating_add(count).saturating_mul(length)
            }
        }
    }

    /// Returns when what leaves then had been admitted at the latest.
    pub(super) fn admitted_by(self, leaves: u64) -> u64 {
        match self {
            Self::Window(window) => leaves.saturating_sub(window),
            Self::SubWindows { length, count } => {
                let number = (leaves / length.max(1)).saturating_sub(count);
                number
                    .saturating_add(1)
                    .saturating_mul(length)
                    .saturating_sub(1)
            }
        }
    }

    /// Returns after how long a full window is as it was, if what leaves is admitted again at once.
    pub(super) fn period(self) -> u64 {
        match self {
            Self::Window(window) => window,
            Self::SubWindows { length, count } => length.saturating_mul(count),
        }
    }

    /// Returns when an admission at `at` leaves for that many times, if what leaves is admitted
    /// again at once.
    fn leaves_again(self, at: u64, times: u64) -> u64 {
        let Some(more) = times.checked_sub(1) else {
            return at;
        };
        self.leaves(at)
            .saturating_add(more.saturating_mul(self.period()))
    }
}

impl CapacityForecast {
    /// Returns whether this cost can be admitted at all.
    pub(super) fn fits(&self, cost: u32) -> bool {
        match self {
            Self::Window(window) => u64::from(cost) <= window.quota,
            Self::Windows(windows) => {
                let mut quotas = windows.iter().map(|window| window.quota);
                quotas.all(|quota| u64::from(cost) <= quota)
            }
            Self::Gcra { gcra, .. } => cost <= gcra.burst,
        }
    }

    /// Returns whether a call of this cost that stands behind nobody is admitted now, or when it
    /// is, or `None` for never.
    pub(super) fn admits(self, cost: u32) -> Result<(), Option<u64>> {
        if !self.fits(cost) {
            return Err(None);
        }
        let has_room = match &self {
            Self::Window(window) => window.has_room(cost),
            Self::Windows(windows) => windows.iter().all(|window| window.has_room(cost)),
            Self::Gcra { gcra, tat, now } => return gcra.take(*tat, cost, *now).map(drop),
        };
        match has_room {
            true => Ok(()),
            false => Err(Some(self.exactly([].into_iter(), cost))),
        }
    }

    /// Returns when a call of this cost is admitted behind calls that cost `ahead` together, if all
    /// of them cost 1. With other costs it is a lower bound: a call whose cost does not fit yet
    /// holds up those behind it.
    pub(super) fn at_least(&self, ahead: u64, cost: u32) -> u64 {
        match self {
            Self::Window(window) => window.unit_at(ahead.saturating_add(cost.into()).max(1) - 1),
            Self::Windows(windows) => {
                let index = ahead.saturating_add(cost.into()).max(1) - 1;
                let times = windows.iter().map(|window| window.unit_at(index));
                times.max().unwrap_or(0)
            }
            Self::Gcra { gcra, tat, now } => {
                gcra.admits_at(*tat, ahead.saturating_add(cost.into()), *now)
            }
        }
    }

    /// Returns when a call of this cost is admitted behind calls of these costs, exactly; walks
    /// over all of them. Those that no longer fit will be refused when their turn comes. While
    /// there is a debt it is a lower bound.
    pub(super) fn exactly(self, ahead: impl Iterator<Item = u32>, cost: u32) -> u64 {
        match self {
            Self::Window(WindowForecast { debt: 1.., .. }) => {
                self.at_least(ahead.map(u64::from).sum(), cost)
            }
            Self::Windows(ref windows) if windows.iter().any(|window| window.debt > 0) => {
                self.at_least(ahead.map(u64::from).sum(), cost)
            }
            Self::Window(window) => {
                let quota = window.quota;
                let fitting = ahead.filter(|cost| u64::from(*cost) <= quota);
                walk(vec![window], fitting.chain([cost]))
            }
            Self::Windows(windows) => {
                let quota = windows.iter().map(|window| window.quota).min();
                let fitting = ahead.filter(|cost| quota.is_some_and(|q| u64::from(*cost) <= q));
                walk(windows, fitting.chain([cost]))
            }
            Self::Gcra { .. } => self.at_least(ahead.map(u64::from).sum(), cost),
        }
    }
}

impl WindowForecast {
    fn has_room(&self, cost: u32) -> bool {
        self.debt == 0 && self.used.saturating_add(cost.into()) <= self.quota
    }

    /// Returns when the unit of this index is given out, counting from now.
    pub(super) fn unit_at(&self, index: u64) -> u64 {
        let leaving = self.leaving.iter().map(|(_, amount)| amount);
        debug_assert_eq!(self.used, leaving.sum::<u64>(), "{self:?}");
        debug_assert!(self.leaving.is_sorted_by_key(|(at, _)| *at), "{self:?}");
        let (quota, index) = (self.quota.max(1), index.saturating_add(self.debt));
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
        self.counted_for.leaves_again(first.max(self.now), windows)
    }
}

/// Returns when the last of these calls is admitted, if each waits for those before it.
fn walk(windows: Vec<WindowForecast>, costs: impl Iterator<Item = u32>) -> u64 {
    let now = windows.iter().map(|window| window.now).max();
    let mut now = now.unwrap_or(0);
    let mut windows: Vec<_> = windows
        .into_iter()
        .map(|window| {
            let leaving = VecDeque::from(window.leaving);
            (window.quota, window.used, leaving, window.counted_for)
        })
        .collect();
    for cost in costs.map(u64::from) {
        for (quota, used, leaving, _) in &mut windows {
            // What has left by then, for another window or another call.
            while let Some(&(at, amount)) = leaving.front()
                && (at <= now || *used + cost > *quota)
            {
                now = now.max(at);
                *used = used.saturating_sub(amount);
                leaving.pop_front();
            }
            if *used + cost > *quota {
                // Only a cost above the quota finds nothing more to wait for.
                return u64::MAX;
            }
        }
        for (_, used, leaving, counted_for) in &mut windows {
            *used += cost;
            leaving.push_back((counted_for.leaves(now), cost));
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(quota: u64, leaving: &[(u64, u64)]) -> CapacityForecast {
        CapacityForecast::Window(WindowForecast {
            now: 5,
            quota,
            used: leaving.iter().map(|(_, amount)| amount).sum(),
            debt: 0,
            leaving: leaving.to_vec(),
            counted_for: CountedFor::Window(10),
        })
    }

    #[test]
    fn a_call_far_behind_is_told_its_time_over_several_windows() {
        let forecast = window(3, &[(8, 1), (12, 1)]);
        let at = |ahead| forecast.at_least(ahead, 1);
        assert_eq!(
            (0..7).map(at).collect::<Vec<_>>(),
            [5, 8, 12, 15, 18, 22, 25]
        );
        for ahead in 0..40 {
            let ones = std::iter::repeat_n(1, ahead as usize);
            assert_eq!(forecast.clone().exactly(ones, 1), at(ahead), "{ahead}");
        }
    }

    #[test]
    fn a_cost_that_does_not_fit_holds_up_those_behind_it() {
        let forecast = window(3, &[(8, 1), (12, 1)]);
        assert_eq!(forecast.clone().exactly([3].into_iter(), 1), 22);
        assert_eq!(forecast.clone().exactly([4].into_iter(), 1), 5);
        assert_eq!(forecast.exactly([].into_iter(), 2), 8);
    }

    #[test]
    fn a_lowered_quota_has_to_be_worked_off_first() {
        let forecast = window(1, &[(8, 2), (12, 1)]);
        assert_eq!(forecast.at_least(0, 1), 12);
        assert_eq!(forecast.at_least(1, 1), 22);
    }

    #[test]
    fn admissions_to_sub_windows_count_until_their_last_sub_window_has_passed() {
        let counted_for = CountedFor::SubWindows {
            length: 10,
            count: 5,
        };
        assert_eq!(counted_for.leaves(19), 60);
        assert_eq!(counted_for.leaves_again(19, 2), 110);
        assert_eq!(counted_for.leaves(u64::MAX), u64::MAX);
    }
}
