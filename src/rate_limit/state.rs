//! What all handles of a limiter share.

use super::{Cost, forecast::Supply, global, keyed, wait::Lines};
use crate::{Key, Kind, Name, Rejected, clock::Time, key::KeyHash, striped::StripedCounter};
use std::time::Duration;

pub(super) struct Inner<K, C> {
    pub(super) name: Name,
    pub(super) window: Duration,
    pub(super) key: K,
    pub(super) cost: C,
    pub(super) state: State,
    pub(super) lines: Lines,
    /// Refused calls.
    pub(super) rejected: StripedCounter,
}

/// What an admitted call has taken from its quota.
///
/// Plain data: dropping it gives nothing back. [`GuardBase::settle`](crate::GuardBase::settle) does,
/// for a call that never started.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    pub(super) key: u64,
    /// Time, sub-window or arrival time: whatever the counting needs to find the admission again.
    pub(super) at: u64,
    pub(super) cost: u32,
}

// There is one per limiter, and it is read on every call: no further pointer to save its padding.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum State {
    Global(global::State),
    Keyed(keyed::Keyed),
}

impl<K, C> Inner<K, C> {
    /// The key and the cost of a request. The application's code runs here, under no lock.
    #[inline]
    pub(super) fn identify<Req>(&self, req: &Req) -> (u64, u32)
    where
        K: Key<Req>,
        C: Cost<Req>,
    {
        let cost = self.cost.cost(req);
        match &self.state {
            State::Global(_) => (0, cost),
            State::Keyed(_) => (self.hash(req), cost),
        }
    }

    pub(super) fn hash<Req>(&self, req: &Req) -> u64
    where
        K: Key<Req>,
    {
        KeyHash::of(&self.key, req).0
    }

    /// Takes `cost` for a call that stands behind nobody. `Err` says when it would be admitted, if
    /// it ever would.
    #[inline]
    pub(super) fn take(&self, key: u64, cost: u32, now: Time) -> Result<u64, Option<u64>> {
        match &self.state {
            State::Global(state) => state.take(cost, now.0),
            State::Keyed(keyed) => keyed.take(key, cost, now.0),
        }
    }

    /// The same for a call that will not wait, and does not overtake those that do.
    #[cold]
    pub(super) fn take_behind(&self, key: u64, cost: u32, now: Time) -> Result<u64, Option<u64>> {
        let lines = self.lines.lock(key);
        match lines.line(key) {
            Some(line) => Err(line.forecast(self.supply(key, now), cost)),
            None => self.take(key, cost, now),
        }
    }

    #[cold]
    pub(super) fn give_back(&self, permit: Permit) {
        match &self.state {
            State::Global(state) => state.give_back(permit.at, permit.cost),
            State::Keyed(keyed) => keyed.give_back(permit.key, permit.at, permit.cost),
        }
        self.wake(permit.key);
    }

    /// Something may have become free.
    pub(super) fn wake(&self, key: u64) {
        if !self.lines.is_empty(key) {
            self.lines.wake(key);
        }
    }

    pub(super) fn supply(&self, key: u64, now: Time) -> Supply {
        match &self.state {
            State::Global(state) => state.supply(now.0),
            State::Keyed(keyed) => keyed.supply(key, now.0),
        }
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.sum()
    }

    #[inline]
    pub(super) fn refused(&self, until: Option<u64>, now: Time) -> Rejected {
        self.rejected.add(1);
        let rejected = Rejected::new(Kind::RateLimited, self.name.as_str());
        match until {
            Some(until) => rejected.with_retry_after(Time(until).since(now)),
            None => rejected,
        }
    }
}
