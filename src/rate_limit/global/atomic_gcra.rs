//! The generic cell rate algorithm for all threads.

use crate::{
    rate_limit::{capacity_forecast::CapacityForecast, gcra::Gcra, status::RemainingQuota},
    shared::{Padded, lock},
};
use std::sync::{
    Mutex,
    atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

/// The generic cell rate algorithm, decided by one word. All threads write it: the price of its
/// size.
#[derive(Debug)]
pub(in crate::rate_limit) struct AtomicGcra {
    /// The theoretical arrival time.
    tat: Padded<AtomicU64>,
    interval: AtomicU64,
    burst: u32,
    quota: AtomicU64,
    /// One change of the quota at a time.
    changing: Mutex<()>,
    admitted_total: Padded<AtomicU64>,
}

impl AtomicGcra {
    pub(super) fn new(quota: u32, window: u64, burst: u32) -> Self {
        Self {
            tat: Padded::default(),
            interval: Gcra::new(quota, window, burst).interval.into(),
            burst,
            quota: u64::from(quota).into(),
            changing: Mutex::default(),
            admitted_total: Padded::default(),
        }
    }

    fn gcra(&self) -> Gcra {
        Gcra {
            interval: self.interval.load(Relaxed),
            burst: self.burst,
        }
    }

    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut tat = self.tat.0.load(SeqCst);
        loop {
            // After the arrival time, which says at which pace it has to be made up for.
            let next = self.gcra().take(tat, cost, now)?;
            match self.tat.0.compare_exchange_weak(tat, next, SeqCst, SeqCst) {
                Ok(_) => {
                    self.admitted_total.0.fetch_add(cost.into(), Relaxed);
                    return Ok(next);
                }
                Err(changed) => tat = changed,
            }
        }
    }

    pub(super) fn give_back(&self, at: u64, cost: u32) {
        self.admitted_total.0.fetch_sub(cost.into(), Relaxed);
        if let Some(tat) = self.gcra().give_back(at, at, cost) {
            // Fails if it is no longer the newest.
            let _ = self.tat.0.compare_exchange(at, tat, SeqCst, SeqCst);
        }
    }

    /// Changes the quota. What has been taken is made up for at the new pace: a raised quota would
    /// otherwise let nobody in for as long as the old one wanted, and a lowered one a second burst.
    pub(super) fn set_quota(&self, quota: u32, window: u64, now: u64) {
        let _changing = lock(&self.changing);
        let before = self.interval.load(Relaxed).max(1);
        let interval = Gcra::new(quota, window, self.burst).interval;
        let at_the_new_pace = |tat: u64| {
            let ahead = u128::from(tat.checked_sub(now)?) * u128::from(interval);
            let ahead = u64::try_from(ahead.div_ceil(u128::from(before))).unwrap_or(u64::MAX);
            Some(now.saturating_add(ahead))
        };
        // Whoever comes between the two finds too little left rather than too much.
        if interval <= before {
            self.interval.store(interval, Relaxed);
        }
        let _ = self.tat.0.fetch_update(SeqCst, SeqCst, at_the_new_pace);
        self.interval.store(interval, Relaxed);
        self.quota.store(quota.into(), Relaxed);
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    pub(super) fn admitted_total(&self) -> u64 {
        self.admitted_total.0.load(Relaxed)
    }

    /// Returns the time before which not even a cost of 1 is admitted; 0 if that is now.
    #[inline]
    pub(super) fn full_until(&self) -> u64 {
        self.gcra().admits_at(self.tat.0.load(Relaxed), 1, 0)
    }

    pub(super) fn remaining(&self, now: u64) -> RemainingQuota {
        let (remaining, reset) = self.gcra().remaining(self.tat.0.load(SeqCst), now);
        RemainingQuota {
            quota: self.quota.load(Relaxed),
            remaining: remaining.into(),
            reset,
        }
    }

    pub(super) fn forecast(&self, now: u64) -> CapacityForecast {
        CapacityForecast::Gcra {
            gcra: self.gcra(),
            tat: self.tat.0.load(SeqCst),
            now,
        }
    }
}
