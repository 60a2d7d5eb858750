//! One limit for all requests.

mod hub;
mod leases;
mod log;

use super::{forecast::Supply, gcra::Pace, status::Level};
use crate::shared::Padded;
use leases::Leases;
use log::Log;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

/// The largest quota that is kept as an exact log: 16 KiB, and few enough calls that one lock is
/// not in their way.
pub(super) const EXACT_UP_TO: u32 = 1024;

#[derive(Debug)]
pub(in crate::rate_limit) enum State {
    Log(Locked),
    Leases(Leases),
    Pace(Paced),
}

impl State {
    pub(super) fn sliding(quota: u32, window: u64) -> Self {
        if quota <= EXACT_UP_TO {
            Self::Log(Locked {
                full_until: Padded::default(),
                log: Padded(Mutex::new(Log::new(quota, window))),
            })
        } else {
            Self::Leases(Leases::new(quota, window))
        }
    }

    pub(super) fn paced(quota: u32, window: u64, burst: u32) -> Self {
        let pace = Pace::new(quota, window, burst);
        Self::Pace(Paced {
            tat: Padded::default(),
            interval: pace.interval.into(),
            burst,
            quota: u64::from(quota).into(),
            changing: Mutex::default(),
            allowed: Padded::default(),
        })
    }

    /// What identifies the admission, or when it would be admitted, or never.
    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        match self {
            Self::Log(log) => log.take(cost, now),
            Self::Leases(leases) => leases.take(cost, now),
            Self::Pace(paced) => paced.take(cost, now),
        }
    }

    pub(super) fn give_back(&self, at: u64, cost: u32) {
        match self {
            Self::Log(log) => {
                let mut locked = log.lock();
                locked.give_back(at, cost);
                log.full_until.0.store(0, Relaxed);
            }
            Self::Leases(leases) => leases.give_back(at, cost),
            Self::Pace(paced) => paced.give_back(at, cost),
        }
    }

    /// Nothing before this time, if that is known without a lock.
    #[inline]
    pub(super) fn full_until(&self) -> u64 {
        match self {
            Self::Log(log) => log.full_until.0.load(Relaxed),
            Self::Leases(leases) => leases.full_until(),
            Self::Pace(paced) => {
                let tat = paced.tat.0.load(Relaxed);
                paced.pace().admits_at(tat, 1, 0)
            }
        }
    }

    /// How many calls may come at once, if that is not the quota.
    pub(super) fn burst(&self) -> Option<u32> {
        match self {
            Self::Log(_) | Self::Leases(_) => None,
            Self::Pace(paced) => Some(paced.burst),
        }
    }

    pub(super) fn set_quota(&self, quota: u32, window: u64, now: u64) {
        match self {
            Self::Log(log) => {
                let mut locked = log.lock();
                locked.set_quota(quota);
                log.full_until.0.store(0, Relaxed);
            }
            Self::Leases(leases) => leases.set_quota(quota),
            Self::Pace(paced) => paced.set_quota(quota, window, now),
        }
    }

    pub(super) fn allowed(&self) -> u64 {
        match self {
            Self::Log(log) => log.lock().allowed,
            Self::Leases(leases) => leases.allowed(),
            Self::Pace(paced) => paced.allowed.0.load(Relaxed),
        }
    }

    pub(super) fn level(&self, now: u64) -> Level {
        match self {
            Self::Log(log) => {
                let mut log = log.lock();
                log.advance(now);
                Level {
                    quota: log.quota(),
                    left: log.quota().saturating_sub(log.used()),
                    reset: log.next().map_or(0, |at| at.saturating_sub(now)),
                }
            }
            Self::Leases(leases) => leases.level(now),
            Self::Pace(paced) => {
                let (left, reset) = paced.pace().left(paced.tat.0.load(SeqCst), now);
                Level {
                    quota: paced.quota.load(Relaxed),
                    left: left.into(),
                    reset,
                }
            }
        }
    }

    pub(super) fn supply(&self, now: u64) -> Supply {
        match self {
            Self::Log(log) => {
                let mut log = log.lock();
                log.advance(now);
                Supply::Window(log.supply())
            }
            Self::Leases(leases) => leases.supply(now),
            Self::Pace(paced) => Supply::Pace {
                pace: paced.pace(),
                tat: paced.tat.0.load(SeqCst),
                now,
            },
        }
    }
}

/// The exact log under a lock that refusals do not take.
#[derive(Debug)]
pub(super) struct Locked {
    /// Not even a cost of 1 fits before this time. Written under the lock.
    full_until: Padded<AtomicU64>,
    log: Padded<Mutex<Log>>,
}

impl Locked {
    #[inline]
    fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let full_until = self.full_until.0.load(Relaxed);
        if now < full_until && cost == 1 {
            return Err(Some(full_until));
        }
        let mut log = self.lock();
        let taken = log.take(cost, now);
        if taken.is_err()
            && let Some(until) = log.full_until()
        {
            self.full_until.0.store(until, Relaxed);
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The generic cell rate algorithm in one word. All threads write it: the price of its eight bytes.
#[derive(Debug)]
pub(super) struct Paced {
    tat: Padded<AtomicU64>,
    interval: AtomicU64,
    burst: u32,
    quota: AtomicU64,
    /// One change of the quota at a time.
    changing: Mutex<()>,
    allowed: Padded<AtomicU64>,
}

impl Paced {
    fn pace(&self) -> Pace {
        Pace {
            interval: self.interval.load(Relaxed),
            burst: self.burst,
        }
    }

    #[inline]
    fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let mut tat = self.tat.0.load(SeqCst);
        loop {
            // After the arrival time, which says at which pace it has to be made up for.
            let next = self.pace().take(tat, cost, now)?;
            match self.tat.0.compare_exchange_weak(tat, next, SeqCst, SeqCst) {
                Ok(_) => {
                    self.allowed.0.fetch_add(cost.into(), Relaxed);
                    return Ok(next);
                }
                Err(changed) => tat = changed,
            }
        }
    }

    /// What has been taken is made up for at the new pace: a raised quota would otherwise let nobody
    /// in for as long as the old one wanted, and a lowered one a second burst.
    fn set_quota(&self, quota: u32, window: u64, now: u64) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.interval.load(Relaxed).max(1);
        let interval = Pace::new(quota, window, self.burst).interval;
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

    fn give_back(&self, at: u64, cost: u32) {
        self.allowed.0.fetch_sub(cost.into(), Relaxed);
        if let Some(tat) = self.pace().give_back(at, at, cost) {
            // Fails if it is no longer the newest.
            let _ = self.tat.0.compare_exchange(at, tat, SeqCst, SeqCst);
        }
    }
}
