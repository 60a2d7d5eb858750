//! Who waits for a key, in the order of arrival.

use super::capacity_forecast::CapacityForecast;
use crate::clock::Time;
use std::{
    collections::{BTreeMap, BTreeSet},
    task::Waker,
    time::Duration,
};

/// For how long the first may leave its turn untaken before others pass it. Tasks that are polled
/// when they are woken, on a runtime that is not stuck, take much less.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// Calls that wait for one key.
///
/// # Invariants
/// 1. Ids ascend in the order of arrival, and are not used twice while anybody waits.
/// 2. `total_cost` and `weighted` are sums over all of `calls`.
/// 3. A call is in `calls` or in `late`: then it has let others pass, and stands in front of all of
///    them when it is polled.
/// 4. `ends` has the end of the wait of every call, and no others.
/// 5. `refusal` is forgotten whenever anything else here changes, or something is given back.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    next_id: u64,
    calls: BTreeMap<u64, WaitingCall>,
    late: BTreeMap<u64, WaitingCall>,
    ends: BTreeSet<(Time, u64)>,
    /// What they cost together.
    total_cost: u64,
    /// How many of them cost something other than 1.
    weighted: usize,
    refusal: Option<KnownRefusal>,
}

/// What a call that does not wait was told, for others of the same cost: a forecast costs thirty
/// times as much as a refusal.
#[derive(Debug)]
struct KnownRefusal {
    cost: u32,
    admits_at: Option<u64>,
    /// From then on the queue may be another one without having been touched.
    holds_until: Time,
}

#[derive(Debug)]
pub(super) struct WaitingCall {
    cost: u32,
    /// When its wait ends.
    until: Time,
    /// When it was expected to be let in when it came.
    expected: Time,
    /// Since when it is, or from when it will be, its turn, as far as that is known.
    turn: Option<Time>,
    pub(super) waker: Option<Waker>,
}

impl WaitingCall {
    pub(super) fn new(cost: u32, until: Time, expected: Time) -> Self {
        Self {
            cost,
            until,
            expected,
            turn: None,
            waker: None,
        }
    }
}

/// Longer queues of weighted calls are not walked for every arrival; the forecast is a lower bound
/// then, and a wait that it should have refused ends at its maximum.
const WALK: usize = 1024;

impl WaitQueue {
    /// Returns whether nobody waits but those that were passed.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        let waiting = self.calls.len() + self.late.len();
        debug_assert_eq!(waiting, self.ends.len());
        debug_assert!(waiting > 0 || (self.total_cost, self.weighted) == (0, 0));
        waiting
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.calls.keys().next().copied()
    }

    pub(super) fn is_first(&self, id: u64) -> bool {
        self.first() == Some(id) || self.late.contains_key(&id)
    }

    pub(super) fn is_waiting(&self, id: u64) -> bool {
        self.calls.contains_key(&id) || self.late.contains_key(&id)
    }

    /// Returns when a call was expected to be let in, if it was not passed.
    pub(super) fn expected(&self, id: u64) -> Option<Time> {
        Some(self.calls.get(&id)?.expected)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut WaitingCall> {
        match self.calls.get_mut(&id) {
            None => self.late.get_mut(&id),
            call => call,
        }
    }

    /// Puts a call at the end. Returns its place.
    pub(super) fn join(&mut self, call: WaitingCall) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.insert(id, call);
        id
    }

    fn insert(&mut self, id: u64, call: WaitingCall) {
        self.refusal = None;
        self.total_cost += u64::from(call.cost);
        self.weighted += usize::from(call.cost != 1);
        self.ends.insert((call.until, id));
        self.calls.insert(id, call);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<WaitingCall> {
        self.refusal = None;
        let call = match self.calls.remove(&id) {
            None => self.late.remove(&id)?,
            Some(call) => {
                self.total_cost -= u64::from(call.cost);
                self.weighted -= usize::from(call.cost != 1);
                call
            }
        };
        self.ends.remove(&(call.until, id));
        Some(call)
    }

    pub(super) fn set_turn(&mut self, id: u64, turn: Time) {
        if let Some(mut call) = self.remove(id) {
            call.turn = Some(turn);
            self.insert(id, call);
        }
    }

    /// Notes that it is the turn of the first, if that is not known yet.
    pub(super) fn begin_turn(&mut self, now: Time) {
        self.refusal = None;
        if let Some(first) = self.calls.values_mut().next() {
            first.turn.get_or_insert(now);
        }
    }

    pub(super) fn take_first_waker(&mut self) -> Option<Waker> {
        self.refusal = None;
        self.calls.values_mut().next()?.waker.take()
    }

    /// Puts out those whose wait is over, wherever they stand: who comes is not to be told that he
    /// waits behind them. A turn that comes at the very end of a wait is still one.
    pub(super) fn put_out(&mut self, own: Option<u64>, now: Time, wake: &mut Vec<Waker>) {
        loop {
            let mut over = self.ends.iter().take_while(|(until, _)| *until < now);
            let Some(&(_, id)) = over.find(|(_, id)| Some(*id) != own) else {
                return;
            };
            wake.extend(self.remove(id).and_then(|call| call.waker));
        }
    }

    /// Passes those in front who find room and have not taken it, and wakes the one who finds it
    /// now.
    pub(super) fn pass_late(
        &mut self,
        own: Option<u64>,
        now: Time,
        forecast: &CapacityForecast,
        wake: &mut Vec<Waker>,
    ) {
        while let Some((&id, first)) = self.calls.iter_mut().next()
            && Some(id) != own
            && forecast.at_least(0, first.cost) <= now.0
        {
            self.refusal = None;
            // Something may have been given back before the time that was noted.
            let turn = first.turn.map_or(now, |turn| turn.min(now));
            first.turn = Some(turn);
            wake.extend(first.waker.take());
            if now < turn.after(GRACE) {
                return;
            }
            if let Some(call) = self.remove(id) {
                self.ends.insert((call.until, id));
                self.late.insert(id, call);
            }
        }
    }

    /// Returns what a call of this cost was last told, if that still holds.
    #[inline]
    pub(super) fn refusal(&self, cost: u32, now: Time) -> Option<Option<u64>> {
        let known = self.refusal.as_ref()?;
        (known.cost == cost && now < known.holds_until).then_some(known.admits_at)
    }

    /// Returns when a call that does not wait would be admitted, and notes until when that holds if
    /// nothing happens: until the first finds room, or is passed, or somebody's wait is over.
    pub(super) fn refuse(
        &mut self,
        forecast: CapacityForecast,
        cost: u32,
        now: Time,
    ) -> Option<u64> {
        let turn = match self.calls.values().next() {
            Some(first) => Time(forecast.at_least(0, first.cost)),
            None => now,
        };
        let changes_at = match (turn > now, self.passes_at()) {
            (false, Some(passes_at)) => Time(passes_at),
            _ => turn,
        };
        let ends_at = self.ends.first().map_or(now, |(until, _)| *until);
        let admits_at = self.admits_at(forecast, cost, now);
        self.refusal = Some(KnownRefusal {
            cost,
            admits_at,
            holds_until: changes_at.min(ends_at),
        });
        admits_at
    }

    /// Returns from when on the first is passed, if it is known to have its turn.
    fn passes_at(&self) -> Option<u64> {
        let turn = self.calls.values().next()?.turn?;
        Some(turn.after(GRACE).0)
    }

    /// Returns when a call that joins the end of this queue is admitted; `None` if it never is.
    pub(super) fn admits_at(
        &self,
        forecast: CapacityForecast,
        cost: u32,
        now: Time,
    ) -> Option<u64> {
        if !forecast.fits(cost) {
            return None;
        }
        // Who comes back when there is room still finds somebody who has not taken his turn.
        let passes_at = self
            .passes_at()
            .filter(|_| forecast.at_least(0, 1) <= now.0);
        let at = self.admits_in_order_at(forecast, cost);
        Some(passes_at.map_or(at, |passes| passes.max(at)))
    }

    fn admits_in_order_at(&self, forecast: CapacityForecast, cost: u32) -> u64 {
        // A call of any cost behind calls of cost 1 is told exactly without a walk.
        if self.weighted == 0 || self.calls.len() > WALK {
            return forecast.at_least(self.total_cost, cost);
        }
        let costs = self.calls.values().map(|call| call.cost);
        forecast.exactly(costs, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_wait_is_over_is_put_out_wherever_it_stands_but_not_the_one_who_looks() {
        let mut queue = WaitQueue::default();
        let ends = [9, 3, 5, 4, 9];
        let ids = ends.map(|end| queue.join(WaitingCall::new(end, Time(end.into()), Time(0))));
        let mut wake = Vec::new();
        queue.put_out(Some(ids[3]), Time(6), &mut wake);
        let left: Vec<_> = queue.calls.keys().copied().collect();
        assert_eq!(left, [ids[0], ids[3], ids[4]]);
        assert_eq!((queue.waiting(), queue.total_cost), (3, 22));
        queue.put_out(None, Time(u64::MAX), &mut wake);
        assert_eq!((queue.waiting(), queue.total_cost), (0, 0));
    }
}
