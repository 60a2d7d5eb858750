//! The exact log: every admission of the last window, with its time.

use super::EXACT_UP_TO;
use crate::rate_limit::forecast::{Span, Window};
use std::collections::VecDeque;

/// Exact to the nanosecond; 16 bytes for each admission of the last window.
#[derive(Debug)]
pub(super) struct Log {
    quota: u64,
    window: u64,
    used: u64,
    /// The latest time seen. A clock that goes backwards frees nothing and records nothing earlier.
    latest: u64,
    /// Admitted since the beginning, less what was given back.
    pub(super) allowed: u64,
    /// Time and cost, oldest first; admissions of one moment are one entry.
    entries: VecDeque<(u64, u64)>,
}

impl Log {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        Self {
            quota: quota.into(),
            window,
            used: 0,
            latest: 0,
            allowed: 0,
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
        self.latest
    }

    /// The moment at which the admission counts, or when it would be admitted, or never.
    pub(super) fn take(&mut self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let cost = u64::from(cost);
        if cost > self.quota {
            return Err(None);
        }
        let now = self.advance(now);
        if self.used + cost > self.quota {
            return Err(Some(self.room_at(cost)));
        }
        self.used += cost;
        self.allowed += cost;
        match self.entries.back_mut() {
            Some((at, sum)) if *at == now => *sum += cost,
            _ => self.entries.push_back((now, cost)),
        }
        Ok(now)
    }

    /// The call that was admitted then never started.
    pub(super) fn give_back(&mut self, at: u64, cost: u32) {
        let cost = u64::from(cost);
        self.allowed -= cost.min(self.allowed);
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

    /// Until when not even a cost of 1 fits.
    pub(super) fn full_until(&self) -> Option<u64> {
        (self.used >= self.quota).then(|| self.room_at(1))
    }

    /// When the oldest admission leaves.
    pub(super) fn next(&self) -> Option<u64> {
        let (at, _) = self.entries.front()?;
        Some(at.saturating_add(self.window))
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn supply(&self) -> Window {
        let span = Span::Exact(self.window);
        Window {
            now: self.latest,
            quota: self.quota,
            used: self.used,
            leaving: self
                .entries
                .iter()
                .map(|(at, cost)| (span.leaves(*at), *cost))
                .collect(),
            span,
        }
    }

    fn room_at(&self, cost: u64) -> u64 {
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
