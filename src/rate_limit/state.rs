//! What all handles of a limiter share.

use super::{
    Cost, Quota, Quotas, capacity_forecast::CapacityForecast, global, keyed,
    wait_queues::WaitQueues,
};
use crate::{Key, Kind, Name, Rejected, clock::Time, key::KeyHash, striped::StripedCounter};
use std::time::Duration;

pub(super) struct Inner<K, C, Q> {
    pub(super) name: Name,
    pub(super) window: Duration,
    pub(super) keyed: bool,
    pub(super) key: K,
    pub(super) cost: C,
    pub(super) quota: Q,
    pub(super) state: State,
    pub(super) queues: WaitQueues,
    /// Refused calls.
    pub(super) rejected_total: StripedCounter,
    /// Calls of cost 0.
    pub(super) exempt_total: StripedCounter,
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
    Accounts(keyed::Accounts),
}

/// Whose quota a call takes from, and how much that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(super) key: u64,
    pub(super) quotas: Quotas,
}

impl Caller {
    /// Everybody, with the quota that the limiter was built with.
    pub(super) const ANY: Self = Self {
        key: 0,
        quotas: Quotas::NONE,
    };
}

impl<K, C, Q> Inner<K, C, Q> {
    /// Returns the key and the cost of a request. The application's code runs here, under no lock.
    // Always, as `Guard::admit`.
    #[inline(always)]
    pub(super) fn identify<Req>(&self, req: &Req) -> (u64, u32)
    where
        K: Key<Req>,
        C: Cost<Req>,
    {
        let cost = self.cost.cost(req);
        (self.key_of(req), cost)
    }

    #[inline(always)]
    fn key_of<Req>(&self, req: &Req) -> u64
    where
        K: Key<Req>,
    {
        if self.keyed {
            KeyHash::of(&self.key, req).0
        } else {
            0
        }
    }

    pub(super) fn caller<Req>(&self, req: &Req) -> Caller
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        self.caller_of(self.key_of(req), req)
    }

    /// Returns who makes a request with this key.
    #[inline]
    pub(super) fn caller_of<Req>(&self, key: u64, req: &Req) -> Caller
    where
        Q: Quota<Req>,
    {
        let quotas = match &self.state {
            State::Accounts(_) => self.quota.quotas(req),
            _ => Quotas::NONE,
        };
        Caller { key, quotas }
    }

    /// Takes `cost` for a call that stands behind nobody. `Err` says when it would be admitted, if
    /// it ever would.
    ///
    /// Quotas are asked for where they are needed: carried by every call, they cost a limiter that
    /// has one quota as much as a twentieth of its decision.
    // Always, as `Guard::admit`.
    #[inline(always)]
    pub(super) fn take_for<Req>(
        &self,
        req: &Req,
        key: u64,
        cost: u32,
        now: Time,
    ) -> Result<u64, Option<u64>>
    where
        Q: Quota<Req>,
    {
        match &self.state {
            State::Global(state) => state.take(cost, now.0),
            State::Keyed(state) => state.take(key, cost, now.0),
            State::Accounts(_) => self.take(&self.caller_of(key, req), cost, now),
        }
    }

    /// Takes `cost` for a call that stands behind nobody.
    #[inline(never)]
    pub(super) fn take(&self, by: &Caller, cost: u32, now: Time) -> Result<u64, Option<u64>> {
        match &self.state {
            State::Global(state) => state.take(cost, now.0),
            State::Keyed(state) => state.take(by.key, cost, now.0),
            State::Accounts(state) => state.take(by.key, &by.quotas, cost, now.0),
        }
    }

    /// Takes `cost` for a call that will not wait, and does not overtake those that do.
    #[cold]
    pub(super) fn take_unless_queued(
        &self,
        by: &Caller,
        cost: u32,
        now: Time,
    ) -> Result<u64, Option<u64>> {
        let key = by.key;
        let mut queues = self.queues.lock(key);
        if let Some(until) = queues.refusal(key, cost, now) {
            return Err(until);
        }
        let forecast = || self.forecast(by, now);
        let mut passed = queues.come_by(key, None, now, forecast);
        let taken = match queues.queue(key).is_some_and(|queue| !queue.is_empty()) {
            true => Err(queues.refuse(key, cost, now, passed.forecast(forecast))),
            false => self.take(by, cost, now),
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
            State::Accounts(state) => state.give_back(permit.key, permit.at, permit.cost),
        }
        self.wake(permit.key);
    }

    /// Returns whether a call of this cost would be admitted, or when, or `None` for never.
    pub(super) fn peek(&self, by: &Caller, cost: u32, now: Time) -> Result<(), Option<u64>> {
        if cost == 0 {
            return Ok(());
        }
        let key = by.key;
        if !self.queues.is_empty(key) {
            let mut queues = self.queues.lock(key);
            let forecast = || self.forecast(by, now);
            let mut passed = queues.come_by(key, None, now, forecast);
            let queue = queues.queue(key).filter(|queue| !queue.is_empty());
            let told = queue.map(|queue| queue.admits_at(passed.forecast(forecast), cost, now));
            drop(queues);
            passed.wake();
            if let Some(admits_at) = told {
                return Err(admits_at);
            }
        }
        self.forecast(by, now).admits(cost)
    }

    /// Forgets what a key has used.
    #[cold]
    pub(super) fn reset(&self, by: &Caller) {
        match &self.state {
            State::Global(state) => state.reset(),
            State::Keyed(state) => state.reset(by.key),
            State::Accounts(state) => state.reset(by.key),
        }
        self.wake(by.key);
    }

    /// Counts a cost that is known afterwards.
    #[cold]
    pub(super) fn charge(&self, by: &Caller, cost: u32, now: Time) {
        match &self.state {
            State::Global(state) => state.charge(cost, now.0),
            State::Keyed(state) => state.charge(by.key, cost, now.0),
            State::Accounts(state) => state.charge(by.key, &by.quotas, cost, now.0),
        }
        // What others were told is out of date.
        self.wake(by.key);
    }

    /// Takes back a part of what was charged or admitted in this window.
    #[cold]
    pub(super) fn refund(&self, by: &Caller, cost: u32, now: Time) {
        match &self.state {
            State::Global(state) => state.refund(cost, now.0),
            State::Keyed(state) => state.refund(by.key, cost, now.0),
            State::Accounts(state) => state.refund(by.key, &by.quotas, cost, now.0),
        }
        self.wake(by.key);
    }

    /// Lets those who wait for this key look again, because something may have become free.
    pub(super) fn wake(&self, key: u64) {
        if !self.queues.is_empty(key) {
            self.queues.wake(key);
        }
    }

    pub(super) fn forecast(&self, by: &Caller, now: Time) -> CapacityForecast {
        match &self.state {
            State::Global(state) => state.forecast(now.0),
            State::Keyed(state) => state.forecast(by.key, now.0),
            State::Accounts(state) => state.forecast(by.key, &by.quotas, now.0),
        }
    }

    /// Admits a call of cost 0, which is counted nowhere else.
    #[cold]
    pub(super) fn exempt(&self) {
        self.exempt_total.add(1);
    }

    /// Counts a refusal, and says when to come back if there is such a time.
    #[inline]
    pub(super) fn refuse(&self, until: Option<u64>, now: Time) -> Rejected {
        self.rejected_total.add(1);
        self.rejection(until, now)
    }

    #[inline]
    pub(super) fn rejection(&self, until: Option<u64>, now: Time) -> Rejected {
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
        assert!(inner.take(&Caller::ANY, 1, now).is_ok());
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
                inner.forecast(&Caller::ANY, now)
            });
            passed.forecast(|| {
                forecasts += 1;
                inner.forecast(&Caller::ANY, now)
            });
            assert_eq!(forecasts, 1, "{line}");
        }
    }
}
