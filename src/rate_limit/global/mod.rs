//! One limit for all requests: an exact log, counters of sub-windows, or GCRA.

mod atomic_gcra;
mod exact_log;
mod sub_windows;
mod thread_leases;

use super::{capacity_forecast::CapacityForecast, status::RemainingQuota};
use crate::shared::{Padded, lock};
use atomic_gcra::AtomicGcra;
use exact_log::ExactLog;
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use thread_leases::ThreadLeases;

/// The largest quota that is kept as an exact log: 16 KiB, and few enough calls that one lock is
/// not in their way.
pub(super) const EXACT_UP_TO: u32 = 1024;

#[derive(Debug)]
pub(in crate::rate_limit) enum State {
    Log(LockedLog),
    Leases(ThreadLeases),
    Gcra(AtomicGcra),
}

impl State {
    pub(super) fn sliding(quota: u32, window: u64) -> Self {
        if quota <= EXACT_UP_TO {
            Self::Log(LockedLog {
                full_until: Padded::default(),
                log: Padded(Mutex::new(ExactLog::new(quota, window))),
            })
        } else {
            Self::Leases(ThreadLeases::new(quota, window))
        }
    }

    pub(super) fn gcra(quota: u32, window: u64, burst: u32) -> Self {
        Self::Gcra(AtomicGcra::new(quota, window, burst))
    }

    /// Returns what identifies the admission, or when it would be admitted, or `None` for never.
    // Always, as `Guard::admit`.
    #[inline(always)]
    pub(super) fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        match self {
            Self::Log(log) => log.take(cost, now),
            Self::Leases(leases) => leases.take(cost, now),
            Self::Gcra(gcra) => gcra.take(cost, now),
        }
    }

    pub(super) fn give_back(&self, at: u64, cost: u32) {
        match self {
            Self::Log(log) => log.give_back(at, cost),
            Self::Leases(leases) => leases.give_back(at, cost),
            Self::Gcra(gcra) => gcra.give_back(at, cost),
        }
    }

    /// Forgets all that has been admitted or charged.
    pub(super) fn reset(&self) {
        match self {
            Self::Log(log) => {
                let mut entries = lock(&log.log.0);
                entries.reset();
                log.full_until.0.store(0, Relaxed);
            }
            Self::Leases(leases) => leases.reset(),
            Self::Gcra(gcra) => gcra.reset(),
        }
    }

    /// Counts a cost that is known afterwards.
    pub(super) fn charge(&self, cost: u32, now: u64) {
        match self {
            Self::Log(log) => log.charge(cost, now),
            Self::Leases(leases) => leases.charge(cost, now),
            Self::Gcra(gcra) => gcra.charge(cost, now),
        }
    }

    /// Takes back a part of what was charged or admitted in this window.
    pub(super) fn refund(&self, cost: u32, now: u64) {
        match self {
            Self::Log(log) => log.refund(cost, now),
            Self::Leases(leases) => leases.refund(cost, now),
            Self::Gcra(gcra) => gcra.refund(cost),
        }
    }

    /// Returns the time before which nothing fits, if that is known without a lock; otherwise 0.
    #[inline]
    pub(super) fn full_until(&self) -> u64 {
        match self {
            Self::Log(log) => log.full_until.0.load(Relaxed),
            Self::Leases(leases) => leases.full_until(),
            Self::Gcra(gcra) => gcra.full_until(),
        }
    }

    /// Returns how many calls may come at once, if that is not the quota.
    pub(super) fn burst(&self) -> Option<u32> {
        match self {
            Self::Log(_) | Self::Leases(_) => None,
            Self::Gcra(gcra) => Some(gcra.burst()),
        }
    }

    pub(super) fn set_quota(&self, quota: u32, window: u64, now: u64) {
        match self {
            Self::Log(log) => log.set_quota(quota),
            Self::Leases(leases) => leases.set_quota(quota),
            Self::Gcra(gcra) => gcra.set(quota, window, gcra.burst(), now),
        }
    }

    /// Changes the burst. Returns whether there is one.
    pub(super) fn set_burst(&self, burst: u32, window: u64, now: u64) -> bool {
        match self {
            Self::Log(_) | Self::Leases(_) => false,
            Self::Gcra(gcra) => {
                gcra.set(gcra.quota(), window, burst, now);
                true
            }
        }
    }

    pub(super) fn admitted_total(&self) -> u64 {
        match self {
            Self::Log(log) => lock(&log.log.0).admitted_total,
            Self::Leases(leases) => leases.admitted_total(),
            Self::Gcra(gcra) => gcra.admitted_total(),
        }
    }

    pub(super) fn remaining(&self, now: u64) -> RemainingQuota {
        match self {
            Self::Log(log) => log.remaining(now),
            Self::Leases(leases) => leases.remaining(now),
            Self::Gcra(gcra) => gcra.remaining(now),
        }
    }

    pub(super) fn forecast(&self, now: u64) -> CapacityForecast {
        match self {
            Self::Log(log) => log.forecast(now),
            Self::Leases(leases) => leases.forecast(now),
            Self::Gcra(gcra) => gcra.forecast(now),
        }
    }
}

/// The exact log under a lock that refusals do not take.
///
/// # Invariants
/// 1. `full_until` is written under the lock only.
/// 2. It is 0, or has passed, whenever the lock is released with something free.
#[derive(Debug)]
pub(super) struct LockedLog {
    /// Not even a cost of 1 fits before this time.
    full_until: Padded<AtomicU64>,
    log: Padded<Mutex<ExactLog>>,
}

impl LockedLog {
    #[inline(always)]
    fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let full_until = self.full_until.0.load(Relaxed);
        if now < full_until && cost == 1 {
            return Err(Some(full_until));
        }
        self.take_locked(cost, now)
    }

    #[inline(never)]
    fn take_locked(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut log = lock(&self.log.0);
        let taken = log.take(cost, now);
        if taken.is_err()
            && let Some(until) = log.full_until()
        {
            self.full_until.0.store(until, Relaxed);
        }
        taken
    }

    fn charge(&self, cost: u32, now: u64) {
        let mut log = lock(&self.log.0);
        log.charge(cost, now);
        if let Some(until) = log.full_until() {
            self.full_until.0.store(until, Relaxed);
        }
    }

    fn refund(&self, cost: u32, now: u64) {
        let mut log = lock(&self.log.0);
        log.refund(cost, now);
        self.full_until.0.store(0, Relaxed);
    }

    fn give_back(&self, at: u64, cost: u32) {
        let mut log = lock(&self.log.0);
        log.give_back(at, cost);
        self.full_until.0.store(0, Relaxed);
    }

    fn set_quota(&self, quota: u32) {
        let mut log = lock(&self.log.0);
        log.set_quota(quota);
        self.full_until.0.store(0, Relaxed);
    }

    fn remaining(&self, now: u64) -> RemainingQuota {
        let mut log = lock(&self.log.0);
        log.advance(now);
        let next = match log.debt() {
            0 => log.next_leaving(),
            _ => log.full_until(),
        };
        RemainingQuota {
            quota: log.quota(),
            remaining: log.quota().saturating_sub(log.used()),
            debt: log.debt(),
            reset: next.map_or(0, |at| at.saturating_sub(now)),
        }
    }

    fn forecast(&self, now: u64) -> CapacityForecast {
        let mut log = lock(&self.log.0);
        log.advance(now);
        CapacityForecast::Window(log.forecast())
    }
}
