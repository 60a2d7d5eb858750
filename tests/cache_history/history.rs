//! What happened in a run. Times count from its beginning, on one clock.

use std::time::Duration;

pub(crate) type Key = usize;
pub(crate) type Version = i64;

/// The version that every key has at the beginning.
pub(crate) const FIRST: Version = 1;

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) writes: Vec<Write>,
    pub(crate) acks: Vec<Ack>,
    pub(crate) reads: Vec<Read>,
    /// When every write that anybody had made was acknowledged or repeated.
    pub(crate) drained: Option<Duration>,
}

/// A write that was committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) key: Key,
    pub(crate) version: Version,
    /// Before that nobody can have seen it,
    pub(crate) began: Duration,
    /// and after that nobody can have read anything older.
    pub(crate) committed: Duration,
}

/// Its invalidation returned `Ok` to its writer, or to the relay that repeated it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) key: Key,
    pub(crate) version: Version,
    pub(crate) instance: usize,
    pub(crate) at: Duration,
}

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) key: Key,
    pub(crate) version: Version,
    pub(crate) instance: usize,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) how: How,
}

/// What its answer said of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// Stored, and fresh.
    Hit,
    /// Loaded, for this call or for another at the same time.
    Loaded,
    /// Stored, and marked as stale.
    Stale,
}
