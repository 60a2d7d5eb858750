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
#[derive(Debug)]
pub(super) struct ExactLog {
    quota: u64,
    window: u64,
    used: u64,
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
        // Now, and not in a call. Above that as calls come: a quota that stands for "no limit" may
        // be more than there is memory for.
        let most = quota.min(EXACT_UP_TO) as usize;
        self.entries
            .reserve(most.saturating_sub(self.entries.len()));
    }

    /// Lets go what has left the window. Returns the time that counts.
    pub(super) fn advance(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        while let Some(&(at, cost)) = self.entries.front() {
            if self.latest - at < self.window {
                break;
            }
            self.entries.pop_front();
            self.used -= cost;
        }
        debug_assert!(!self.entries.is_empty() || self.used == 0, "{self:?}");
        self.latest
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
        self.used += cost;
        self.admitted_total += cost;
        match self.entries.back_mut() {
            Some((at, sum)) if *at == now => *sum += cost,
            newest => {
                debug_assert!(newest.is_none_or(|(at, _)| *at < now), "time went back");
                self.entries.push_back((now, cost));
            }
        }
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
