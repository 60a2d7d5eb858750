//! Several windows on one limiter, and quotas that differ from key to key.
//!
//! The windows of a key are counted under one lock and at one time, so a call is admitted by all of
//! them or by none, and one time finds it again in all of them.

use super::{
    KeyLimit, KeyTotals,
    account::{AccountCounting, AccountWindow},
    counting::Counting,
    shard::{Shard, SpareKeys},
    sharded_table::{shards_for, somebodys},
};
use crate::{
    key_table::KeyShards,
    rate_limit::{
        capacity_forecast::CapacityForecast,
        quota::{MOST_WINDOWS, Quotas},
        status::RemainingQuota,
    },
};
use std::sync::{
    MutexGuard,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// What all keys have used in every window.
///
/// # Invariants
/// 1. There is at least one window, and no more than [`MOST_WINDOWS`].
/// 2. A shard has a table for each window once it has been locked.
#[derive(Debug)]
pub(in crate::rate_limit) struct Accounts {
    windows: Box<[Window]>,
    shards: KeyShards<Tables>,
}

#[derive(Debug)]
struct Window {
    /// In nanoseconds.
    length: u64,
    quota: AtomicU32,
    spare: SpareKeys,
}

impl Window {
    fn counting(&self, i: usize, quotas: &Quotas) -> AccountCounting {
        let quota = quotas.get(i).unwrap_or_else(|| self.quota.load(Relaxed));
        AccountCounting {
            quota,
            window: self.length,
        }
    }
}

/// A part of the keys: a table for each window.
#[derive(Debug, Default)]
struct Tables {
    tables: Vec<Shard<AccountWindow>>,
    /// The latest time seen: that of all windows.
    latest: u64,
}

impl Accounts {
    /// Makes the accounts for windows of these quotas and lengths, in nanoseconds.
    pub(in crate::rate_limit) fn new(
        windows: impl Iterator<Item = (u32, u64)>,
        limit: KeyLimit,
    ) -> Self {
        let window = |(quota, length): (u32, u64)| Window {
            length,
            quota: quota.into(),
            spare: SpareKeys::new(limit.max_keys, limit.overflow, length),
        };
        let windows: Box<[_]> = windows.take(MOST_WINDOWS).map(window).collect();
        debug_assert!(!windows.is_empty(), "no window");
        Self {
            windows,
            shards: KeyShards::new(shards_for(limit.max_keys)),
        }
    }

    /// Returns the time of the admission, or when it would be admitted, or `None` for never.
    pub(in crate::rate_limit) fn take(
        &self,
        key: u64,
        quotas: &Quotas,
        cost: u32,
        now: u64,
    ) -> Result<u64, Option<u64>> {
        let (hash, mut shard) = self.lock(key);
        let now = shard.reach(now);
        let mut admitted = [false; MOST_WINDOWS];
        let mut until = Some(now);
        for ((i, window), table) in self.windows.iter().enumerate().zip(&mut shard.tables) {
            let counting = window.counting(i, quotas);
            let taken = match counting.fits(cost) {
                true => table.take(&counting, &window.spare, hash, cost, now),
                false => Err(None),
            };
            match taken {
                Ok(_) => admitted[i] = true,
                Err(at) => until = until.zip(at).map(|(until, at)| until.max(at)),
            }
        }
        if admitted.iter().filter(|admitted| **admitted).count() == self.windows.len() {
            return Ok(now);
        }
        for ((i, window), table) in self.windows.iter().enumerate().zip(&mut shard.tables) {
            if admitted[i] {
                table.give_back(&window.counting(i, quotas), hash, now, cost);
            }
        }
        Err(until)
    }

    pub(in crate::rate_limit) fn give_back(&self, key: u64, time: u64, cost: u32) {
        let (hash, mut shard) = self.lock(key);
        for ((i, window), table) in self.windows.iter().enumerate().zip(&mut shard.tables) {
            table.give_back(&window.counting(i, &Quotas::NONE), hash, time, cost);
        }
    }

    pub(in crate::rate_limit) fn charge(&self, key: u64, quotas: &Quotas, cost: u32, now: u64) {
        let (hash, mut shard) = self.lock(key);
        let now = shard.reach(now);
        for ((i, window), table) in self.windows.iter().enumerate().zip(&mut shard.tables) {
            let counting = window.counting(i, quotas);
            table.charge(&counting, &window.spare, hash, cost, now);
        }
    }

    pub(in crate::rate_limit) fn reset(&self, key: u64) {
        let (hash, mut shard) = self.lock(key);
        for (window, table) in self.windows.iter().zip(&mut shard.tables) {
            table.reset(&window.spare, hash);
        }
    }

    pub(in crate::rate_limit) fn refund(&self, key: u64, quotas: &Quotas, cost: u32, now: u64) {
        let (hash, mut shard) = self.lock(key);
        let now = shard.reach(now);
        for ((i, window), table) in self.windows.iter().enumerate().zip(&mut shard.tables) {
            table.refund(&window.counting(i, quotas), hash, cost, now);
        }
    }

    /// Returns what is left in each window, with its length in nanoseconds.
    pub(in crate::rate_limit) fn remaining(
        &self,
        key: u64,
        quotas: &Quotas,
        now: u64,
    ) -> Vec<(RemainingQuota, u64)> {
        let (hash, mut shard) = self.lock(key);
        let now = shard.latest.max(now);
        let windows = self.windows.iter().enumerate().zip(&mut shard.tables);
        let remaining = windows.map(|((i, window), table)| {
            let counting = window.counting(i, quotas);
            (table.remaining(&counting, hash, now), window.length)
        });
        remaining.collect()
    }

    pub(in crate::rate_limit) fn forecast(
        &self,
        key: u64,
        quotas: &Quotas,
        now: u64,
    ) -> CapacityForecast {
        let (hash, mut shard) = self.lock(key);
        let now = shard.latest.max(now);
        let windows = self.windows.iter().enumerate().zip(&mut shard.tables);
        let forecasts = windows.filter_map(|((i, window), table)| {
            match table.forecast(&window.counting(i, quotas), hash, now) {
                CapacityForecast::Window(forecast) => Some(forecast),
                _ => None,
            }
        });
        CapacityForecast::Windows(forecasts.collect())
    }

    /// Returns the quota that a window was built with, or has been set to, and its length.
    pub(in crate::rate_limit) fn built(&self) -> impl Iterator<Item = (u32, u64)> {
        let windows = self.windows.iter();
        windows.map(|window| (window.quota.load(Relaxed), window.length))
    }

    /// Changes the quota of a window for all whose requests say none.
    pub(in crate::rate_limit) fn set_quota(&self, window: usize, quota: u32) {
        if let Some(window) = self.windows.get(window) {
            window.quota.store(quota, Relaxed);
        }
    }

    /// Returns what the keys have done so far, together.
    pub(in crate::rate_limit) fn totals(&self) -> KeyTotals {
        let mut totals = KeyTotals::default();
        for shard in self.shards.lock_each() {
            if let Some(first) = shard.tables.first() {
                totals.admitted_total += first.admitted_total;
            }
            let keys = shard.tables.iter().map(Shard::keys).max();
            totals.keys += keys.unwrap_or(0);
            let overflowed = shard.tables.iter().map(Shard::overflowed_total).max();
            totals.overflowed_total += overflowed.unwrap_or(0);
        }
        totals
    }

    fn lock(&self, key: u64) -> (u64, MutexGuard<'_, Tables>) {
        let hash = somebodys(key);
        let mut shard = self.shards.lock(hash);
        if shard.tables.is_empty() {
            shard.tables = self.windows.iter().map(|_| Shard::default()).collect();
        }
        (hash, shard)
    }
}

impl Tables {
    /// Returns the time that counts: a clock that goes backwards stands still.
    fn reach(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }
}
