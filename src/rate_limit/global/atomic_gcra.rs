//! The generic cell rate algorithm for all threads.

use crate::{
    rate_limit::{capacity_forecast::CapacityForecast, gcra::Gcra, status::RemainingQuota},
    shared::{Padded, lock},
};
use std::sync::{
    Mutex,
    atomic::{
        AtomicU32, AtomicU64,
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
    burst: AtomicU32,
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
            burst: burst.into(),
            quota: u64::from(quota).into(),
            changing: Mutex::default(),
            admitted_total: Padded::default(),
        }
    }

    fn gcra(&self) -> Gcra {
        Gcra {
            interval: self.interval.load(Relaxed),
            burst: self.burst.load(Relaxed),
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

    /// Counts a cost that is known afterwards.
    pub(super) fn charge(&self, cost: u32, now: u64) {
        let gcra = self.gcra();
        let later = |tat| Some(gcra.charge(tat, cost, now));
        let _ = self.tat.0.fetch_update(SeqCst, SeqCst, later);
        self.admitted_total.0.fetch_add(cost.into(), Relaxed);
    }

    /// Forgets all that has been admitted or charged.
    pub(super) fn reset(&self) {
        self.tat.0.store(0, SeqCst);
    }

    /// Takes back a part of what was charged or admitted.
    pub(super) fn refund(&self, cost: u32) {
        let gcra = self.gcra();
        let earlier = |tat| Some(gcra.refund(tat, cost));
        let _ = self.tat.0.fetch_update(SeqCst, SeqCst, earlier);
        let less = |total: u64| Some(total.saturating_sub(cost.into()));
        let _ = self.admitted_total.0.fetch_update(Relaxed, Relaxed, less);
    }

    /// Changes the quota and the burst. What has been taken is made up for at the new pace.
    pub(super) fn set(&self, quota: u32, window: u64, burst: u32, now: u64) {
        let _changing = lock(&self.changing);
        let (before, after) = (self.gcra(), Gcra::new(quota, window, burst));
        // Whoever comes between the two finds too little left rather than too much.
        if after.interval <= before.interval {
            self.interval.store(after.interval, Relaxed);
        }
        if burst <= before.burst {
            self.burst.store(burst, Relaxed);
        }
        let at_the_new_pace = |tat| Some(before.at_the_pace_of(after, tat, now));
        let _ = self.tat.0.fetch_update(SeqCst, SeqCst, at_the_new_pace);
        self.interval.store(after.interval, Relaxed);
        self.burst.store(burst, Relaxed);
        self.quota.store(quota.into(), Relaxed);
    }

    pub(super) fn quota(&self) -> u32 {
        u32::try_from(self.quota.load(Relaxed)).unwrap_or(u32::MAX)
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst.load(Relaxed)
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
        let gcra = self.gcra();
        gcra.status(self.tat.0.load(SeqCst), now, self.quota.load(Relaxed))
    }

    pub(super) fn forecast(&self, now: u64) -> CapacityForecast {
        CapacityForecast::Gcra {
            gcra: self.gcra(),
            tat: self.tat.0.load(SeqCst),
            now,
        }
    }
}
