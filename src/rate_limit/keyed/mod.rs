//! A limit for each key, in bounded memory.

mod counting;
mod packed_log;
mod packed_sub_windows;
mod shard;
mod sharded_table;
mod slot_table;

use super::{Algorithm, capacity_forecast::CapacityForecast, status::RemainingQuota};
use counting::KeyedGcra;
use packed_log::PackedLog;
use packed_sub_windows::PackedSubWindows;
use sharded_table::ShardedTable;

#[derive(Debug)]
pub(super) struct State(CountedKeys);

/// One way of counting for all keys: the finest whose counts fit into a cache line.
#[derive(Debug)]
enum CountedKeys {
    Log(ShardedTable<PackedLog>),
    /// 59 sub-windows per window.
    SubWindows1(ShardedTable<PackedSubWindows<1>>),
    /// 29 sub-windows per window.
    SubWindows2(ShardedTable<PackedSubWindows<2>>),
    /// 19 sub-windows per window.
    SubWindows3(ShardedTable<PackedSubWindows<3>>),
    /// 14 sub-windows per window.
    SubWindows4(ShardedTable<PackedSubWindows<4>>),
    Gcra(ShardedTable<KeyedGcra>),
}

macro_rules! each {
    ($state:expr, $table:ident => $answer:expr) => {
        match &$state.0 {
            CountedKeys::Log($table) => $answer,
            CountedKeys::SubWindows1($table) => $answer,
            CountedKeys::SubWindows2($table) => $answer,
            CountedKeys::SubWindows3($table) => $answer,
            CountedKeys::SubWindows4($table) => $answer,
            CountedKeys::Gcra($table) => $answer,
        }
    };
}

impl State {
    pub(super) fn new(algorithm: Algorithm, quota: u32, window: u64, max_keys: usize) -> Self {
        macro_rules! table {
            ($keys:ident, $counting:expr) => {
                CountedKeys::$keys(ShardedTable::new($counting, max_keys))
            };
        }
        Self(match (algorithm, quota) {
            (Algorithm::Gcra { burst }, _) => table!(Gcra, KeyedGcra::new(quota, window, burst)),
            (_, 0..=packed_log::LARGEST_QUOTA) => table!(Log, PackedLog::new(quota, window)),
            (_, 0..=0xff) => table!(SubWindows1, PackedSubWindows::new(quota, window)),
            (_, 0..=0xffff) => table!(SubWindows2, PackedSubWindows::new(quota, window)),
            (_, 0..=0xff_ffff) => table!(SubWindows3, PackedSubWindows::new(quota, window)),
            _ => table!(SubWindows4, PackedSubWindows::new(quota, window)),
        })
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        each!(self, table => table.take(hash, cost, now))
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        each!(self, table => table.give_back(hash, at, cost));
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

    /// Returns the cost admitted so far, and the keys that are kept.
    pub(super) fn totals(&self) -> (u64, usize) {
        each!(self, table => table.totals())
    }
}
