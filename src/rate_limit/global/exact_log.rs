//! The exact log: every admission of the last window, with its time.

use super::EXACT_UP_TO;
use crate::rate_limit::capacity_forecast::{CountedFor, WindowForecast};
use std::collections::VecDeque;

/// Every admission of the last window, exact to the nanosecond; 16 bytes for each.
///
/// # Invariants
/// 1. `used` is the sum of the costs of all entries.
/// 2. The times of the entries ascend strictly, up to `latest`.
/// 3. An admission never makes `used` exceed the quota (but a quota that is lowered may).
/// 4. There is a debt only while nothing is free.
#[derive(Debug)]
pub(super) struct ExactLog {
    quota: u64,
    window: u64,
    used: u64,
    /// Charged beyond the quota: counted as soon as there is room for it.
    debt: u64,
    /// The latest time seen. A clock that goes backwards frees nothing and records nothing earlier.
    latest: u64,
    /// Admitted since the beginning, less what was given back.
    pub(super) admitted_total: u64,
    /// Time and cost, oldest first; admissions of one moment are one entry.
    entries: VecDeque<(u64, u64)>,
}

impl ExactLog {
    /// Makes an empty log, with memory for a full one: an admission does not allocate.
    pub(super) fn new(quota: u32, window: u64) -> Self {
        Self {
            quota: quota.into(),
            window,
            used: 0,
            debt: 0,
            latest: 0,
            admitted_total: 0,
            entries: VecDeque::with_capacity(quota as usize),
        }
    }

    pub(super) fn quota(&self) -> u64 {
        self.quota
    }

    pub(super) fn set_quota(&mut self, quota: u32) {
        self.quota = quota.into();
        self.pay(self.latest);
        // Now, and not in a call. Above that as calls come: a quota that stands for "no limit" may
        // be more than there is memory for.
        let most = quota.min(EXACT_UP_TO) as usize;
        self.entries
            .reserve(most.saturating_sub(self.entries.len()));
    }

    /// Lets go what has left the window. Returns the time that counts.
    pub(super) fn advance(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        if self.debt > 0 {
            self.skip_windows();
        }
        while let Some(&(at, cost)) = self.entries.front() {
            if self.latest - at < self.window {
                break;
            }
            self.entries.pop_front();
            self.used -= cost;
            self.pay(at.saturating_add(self.window));
        }
        debug_assert!(!self.entries.is_empty() || self.used == 0, "{self:?}");
        self.latest
    }

    /// Counts at this time what fits of the debt.
    fn pay(&mut self, at: u64) {
        let paid = self.debt.min(self.quota.saturating_sub(self.used));
        if paid > 0 {
            self.debt -= paid;
            self.push(at, paid);
        }
    }

    /// Moves on over the windows in which a debt takes every place that becomes free.
    fn skip_windows(&mut self) {
        let Some(&(newest, _)) = self.entries.back() else {
            return;
        };
        if self.used == self.quota {
            let windows = (self.debt / self.quota.max(1)).min((self.latest - newest) / self.window);
            self.debt -= windows * self.quota;
            for (at, _) in &mut self.entries {
                *at += windows * self.window;
            }
        }
    }

    fn push(&mut self, at: u64, cost: u64) {
        self.used += cost;
        match self.entries.back_mut() {
            Some((newest, sum)) if *newest == at => *sum += cost,
            newest => {
                debug_assert!(
                    newest.is_none_or(|(newest, _)| *newest < at),
                    "time went back"
                );
                self.entries.push_back((at, cost));
            }
        }
    }

    /// Counts a cost that is known afterwards. What does not fit is a debt.
    pub(super) fn charge(&mut self, cost: u32, now: u64) {
        let now = self.advance(now);
        self.debt = self.debt.saturating_add(cost.into());
        self.admitted_total += u64::from(cost);
        self.pay(now);
    }

    /// Takes back a part of what was charged or admitted in this window: the debt, and then what
    /// leaves first, so that nothing is counted for too short a time.
    pub(super) fn refund(&mut self, cost: u32, now: u64) {
        self.advance(now);
        let mut cost = u64::from(cost);
        self.admitted_total -= cost.min(self.admitted_total);
        let forgiven = cost.min(self.debt);
        self.debt -= forgiven;
        cost -= forgiven;
        while cost > 0
            && let Some((_, sum)) = self.entries.front_mut()
        {
            let taken = cost.min(*sum);
            *sum -= taken;
            cost -= taken;
            self.used -= taken;
            if *sum == 0 {
                self.entries.pop_front();
            }
        }
    }

    /// Forgets all that has been admitted or charged.
    pub(super) fn reset(&mut self) {
        self.entries.clear();
        (self.used, self.debt) = (0, 0);
    }

    pub(super) fn debt(&self) -> u64 {
        self.debt
    }

    /// Returns the moment at which the admission counts, or when it would be admitted, or `None`
    /// for never.
    pub(super) fn take(&mut self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let cost = u64::from(cost);
        if cost > self.quota {
            return Err(None);
        }
        let now = self.advance(now);
        if self.used + cost > self.quota {
            return Err(Some(self.free_at(cost)));
        }
        debug_assert!(self.debt == 0, "room in spite of a debt");
        self.admitted_total += cost;
        self.push(now, cost);
        Ok(now)
    }

    /// Takes back an admission, because the call never started.
    pub(super) fn give_back(&mut self, at: u64, cost: u32) {
        let cost = u64::from(cost);
        self.admitted_total -= cost.min(self.admitted_total);
        if let Ok(i) = self.entries.binary_search_by_key(&at, |(at, _)| *at)
            && let Some((_, sum)) = self.entries.get_mut(i)
        {
            let cost = cost.min(*sum);
            *sum -= cost;
            self.used -= cost;
            if *sum == 0 {
                self.entries.remove(i);
            }
            self.pay(self.latest);
        }
    }

    /// Returns until when not even a cost of 1 fits, if that is so.
    pub(super) fn full_until(&self) -> Option<u64> {
        (self.used >= self.quota).then(|| self.free_at(1))
    }

    /// Returns when the oldest admission leaves, if there is one.
    pub(super) fn next_leaving(&self) -> Option<u64> {
        let (at, _) = self.entries.front()?;
        Some(at.saturating_add(self.window))
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn forecast(&self) -> WindowForecast {
        let counted_for = CountedFor::Window(self.window);
        WindowForecast {
            now: self.latest,
            quota: self.quota,
            used: self.used,
            debt: self.debt,
            leaving: self
                .entries
                .iter()
                .map(|(at, cost)| (counted_for.leaves(*at), *cost))
                .collect(),
            counted_for,
        }
    }

    /// Returns when `cost` will be free.
    fn free_at(&self, cost: u64) -> u64 {
        if self.debt > 0 {
            return self.forecast().unit_at(cost.max(1) - 1);
        }
        let mut must_leave = (self.used + cost).saturating_sub(self.quota);
        for &(at, cost) in &self.entries {
            if cost >= must_leave {
                return at.saturating_add(self.window);
            }
            must_leave -= cost;
        }
        self.latest
    }
}
