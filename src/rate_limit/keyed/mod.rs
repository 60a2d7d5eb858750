//! A limit for each key, in bounded memory.

mod cells;
mod counters;
mod form;
mod shard;
mod table;
mod times;

use super::{Algorithm, forecast::Supply, gcra::Pace, status::Level};
use counters::Counters;
use form::Paced;
use table::Table;
use times::Times;

#[derive(Debug)]
pub(super) struct Keyed(Forms);

/// One form of counting for all keys: the finest whose counts fit into a cache line.
#[derive(Debug)]
enum Forms {
    /// The exact log.
    Times(Table<Times>),
    /// 59 sub-windows.
    Counters1(Table<Counters<1>>),
    /// 29.
    Counters2(Table<Counters<2>>),
    /// 19.
    Counters3(Table<Counters<3>>),
    /// 14.
    Counters4(Table<Counters<4>>),
    Paced(Table<Paced>),
}

macro_rules! each {
    ($keyed:expr, $table:ident => $answer:expr) => {
        match &$keyed.0 {
            Forms::Times($table) => $answer,
            Forms::Counters1($table) => $answer,
            Forms::Counters2($table) => $answer,
            Forms::Counters3($table) => $answer,
            Forms::Counters4($table) => $answer,
            Forms::Paced($table) => $answer,
        }
    };
}

impl Keyed {
    pub(super) fn new(algorithm: Algorithm, quota: u32, window: u64, max_keys: usize) -> Self {
        Self(match (algorithm, quota) {
            (Algorithm::Gcra { burst }, _) => {
                let form = Paced(Pace::new(quota, window, burst), quota);
                Forms::Paced(Table::new(form, max_keys))
            }
            (_, 0..=times::MOST) => Forms::Times(Table::new(Times::new(quota, window), max_keys)),
            (_, 0..=0xff) => Forms::Counters1(Table::new(Counters::new(quota, window), max_keys)),
            (_, 0..=0xffff) => Forms::Counters2(Table::new(Counters::new(quota, window), max_keys)),
            (_, 0..=0xff_ffff) => {
                Forms::Counters3(Table::new(Counters::new(quota, window), max_keys))
            }
            _ => Forms::Counters4(Table::new(Counters::new(quota, window), max_keys)),
        })
    }

    #[inline]
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        each!(self, table => table.take(hash, cost, now))
    }

    pub(super) fn give_back(&self, hash: u64, at: u64, cost: u32) {
        each!(self, table => table.give_back(hash, at, cost));
    }

    pub(super) fn level(&self, hash: u64, now: u64) -> Level {
        each!(self, table => table.level(hash, now))
    }

    pub(super) fn supply(&self, hash: u64, now: u64) -> Supply {
        each!(self, table => table.supply(hash, now))
    }

    pub(super) fn quota(&self) -> u32 {
        each!(self, table => table.quota())
    }

    /// The cost admitted so far, and the keys that are kept.
    pub(super) fn totals(&self) -> (u64, usize) {
        each!(self, table => table.totals())
    }
}
