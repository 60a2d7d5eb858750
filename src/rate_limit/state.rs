//! What all handles of a limiter share.

use super::{Cost, capacity_forecast::CapacityForecast, global, keyed, wait_queue::WaitQueues};
use crate::{Key, Kind, Name, Rejected, clock::Time, key::KeyHash, striped::StripedCounter};
use std::time::Duration;

pub(super) struct Inner<K, C> {
    pub(super) name: Name,
    pub(super) window: Duration,
    pub(super) key: K,
    pub(super) cost: C,
    pub(super) state: State,
    pub(super) queues: WaitQueues,
    /// Refused calls.
    pub(super) rejected_total: StripedCounter,
}

/// What an admitted call has taken from its quota.
///
/// It is plain data, and dropping it gives nothing back.
/// [`GuardBase::settle`](crate::GuardBase::settle) does, if the call never started.
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
    Keyed(keyed::State),
}

impl<K, C> Inner<K, C> {
    /// Returns the key and the cost of a request. The application's code runs here, under no lock.
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
            State::Keyed(state) => state.take(key, cost, now.0),
        }
    }

    /// Takes `cost` for a call that will not wait, and does not overtake those that do.
    #[cold]
    pub(super) fn take_unless_queued(
        &self,
        key: u64,
        cost: u32,
        now: Time,
    ) -> Result<u64, Option<u64>> {
        let mut queues = self.queues.lock(key);
        let forecast = || self.forecast(key, now);
        let mut passed = queues.come_by(key, None, now, forecast);
        let taken = match queues.queue(key).filter(|queue| !queue.is_empty()) {
            Some(queue) => Err(queue.admits_at(passed.forecast(forecast), cost, now)),
            None => self.take(key, cost, now),
        };
        drop(queues);
        passed.wake();
        taken
    }

    #[cold]
    pub(super) fn give_back(&self, permit: Permit) {
        match &self.state {
            State::Global(state) => state.give_back(permit.at, permit.cost),
            State::Keyed(state) => state.give_back(permit.key, permit.at, permit.cost),
        }
        self.wake(permit.key);
    }

    /// Lets those who wait for this key look again, because something may have become free.
    pub(super) fn wake(&self, key: u64) {
        if !self.queues.is_empty(key) {
            self.queues.wake(key);
        }
    }

    pub(super) fn forecast(&self, key: u64, now: Time) -> CapacityForecast {
        match &self.state {
            State::Global(state) => state.forecast(now.0),
            State::Keyed(state) => state.forecast(key, now.0),
        }
    }

    /// Counts a refusal, and says when to come back if there is such a time.
    #[inline]
    pub(super) fn refuse(&self, until: Option<u64>, now: Time) -> Rejected {
        self.rejected_total.add(1);
        let rejected = Rejected::new(Kind::RateLimited, self.name.as_str());
        match until {
            Some(until) => rejected.with_retry_after(Time(until).since(now)),
            None => rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RateLimiter, wait_queue::WaitingCall};
    use super::*;

    #[test]
    fn who_comes_by_a_line_that_moves_on_has_one_forecast_made() {
        let limiter = RateLimiter::new("api", 1, Duration::from_secs(1)).unwrap();
        let (inner, now) = (limiter.inner(), Time(5_000_000_000));
        assert!(inner.take(0, 1, now).is_ok());
        let mut queues = inner.queues.lock(0);
        for line in [false, true] {
            if line {
                queues.announce();
                let until = now.after(Duration::from_secs(9));
                queues.join(0, WaitingCall::new(1, until, until));
            }
            let mut forecasts = 0;
            let mut passed = queues.come_by(0, None, now, || {
                forecasts += 1;
                inner.forecast(0, now)
            });
            passed.forecast(|| {
                forecasts += 1;
                inner.forecast(0, now)
            });
            assert_eq!(forecasts, 1, "{line}");
        }
    }
}
