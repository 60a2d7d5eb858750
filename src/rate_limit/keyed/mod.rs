//! A limit for each key, in bounded memory.

mod account;
mod accounts;
mod counting;
mod debts;
mod form;
mod packed_log;
mod packed_sub_windows;
mod shard;
mod sharded_table;
mod slot_table;

use super::{Algorithm, KeyOverflow, capacity_forecast::CapacityForecast, status::RemainingQuota};
pub(super) use accounts::Accounts;
use counting::{Counting, KeyedGcra};
use form::{Form, FormCounting};
use sharded_table::ShardedTable;

#[derive(Debug)]
pub(super) struct State(CountedKeys);

/// How many keys are kept, and what happens to others.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLimit {
    pub(super) max_keys: usize,
    pub(super) overflow: KeyOverflow,
}

/// What the keys have done so far, together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyTotals {
    pub(super) keys: usize,
    pub(super) admitted_total: u64,
    /// New keys that found the table full.
    pub(super) overflowed_total: u64,
}

/// One way of counting for all keys.
#[derive(Debug)]
enum CountedKeys {
    /// In the finest form whose counts fit into a cache line.
    Windows(ShardedTable<FormCounting>),
    Gcra(ShardedTable<KeyedGcra>),
}

macro_rules! each {
    ($state:expr, $table:ident => $answer:expr) => {
        match &$state.0 {
            CountedKeys::Windows($table) => $answer,
            CountedKeys::Gcra($table) => $answer,
        }
    };
}

impl State {
    pub(super) fn new(algorithm: Algorithm, quota: u32, window: u64, limit: KeyLimit) -> Self {
        Self(match algorithm {
            Algorithm::SlidingWindow => {
                let counting = FormCounting::new(Form::of(quota), quota, window);
                CountedKeys::Windows(ShardedTable::new(counting, limit, window))
            }
            Algorithm::Gcra { burst } => {
                let counting = KeyedGcra::new(quota, window, burst);
                CountedKeys::Gcra(ShardedTable::new(counting, limit, window))
            }
        })
    }

    /// Returns how many calls may come at once, if that is not the quota.
    pub(super) fn burst(&self) -> Option<u32> {
        match &self.0 {
            CountedKeys::Windows(_) => None,
            CountedKeys::Gcra(table) => Some(table.counting()?.burst()),
        }
    }

    pub(super) fn set_quota(&self, quota: u32, window: u64, now: u64) {
        match &self.0 {
            CountedKeys::Windows(table) => table.change(now, |before| {
                // What has been counted may not fit into a finer form.
                let form = before.form().max(Form::of(quota));
                FormCounting::new(form, quota, window)
            }),
            CountedKeys::Gcra(table) => {
                table.change(now, |before| KeyedGcra::new(quota, window, before.burst()));
            }
        }
    }

    /// Changes the burst. Returns whether there is one.
    pub(super) fn set_burst(&self, burst: u32, window: u64, now: u64) -> bool {
        match &self.0 {
            CountedKeys::Windows(_) => false,
            CountedKeys::Gcra(table) => {
                table.change(now, |before| KeyedGcra::new(before.quota(), window, burst));
                true
            }
        }
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        each!(self, table => table.take(hash, cost, now))
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        each!(self, table => table.give_back(hash, at, cost));
    }

    pub(super) fn charge(&self, hash: u64, cost: u32, now: u64) {
        each!(self, table => table.charge(hash, cost, now));
    }

    pub(super) fn reset(&self, hash: u64) {
        each!(self, table => table.reset(hash));
    }

    pub(super) fn refund(&self, hash: u64, cost: u32, now: u64) {
        each!(self, table => table.refund(hash, cost, now));
    }

    pub(super) fn remaining(&self, hash: u64, now: u64) -> RemainingQuota {
        each!(self, table => table.remaining(hash, now))
    }

    pub(super) fn forecast(&self, hash: u64, now: u64) -> CapacityForecast {
        each!(self, table => table.forecast(hash, now))
    }

    pub(super) fn quota(&self) -> u32 {
        each!(self, table => table.quota())
    }

    pub(super) fn totals(&self) -> KeyTotals {
        each!(self, table => table.totals())
    }
}
