//! Who waits for which key, in the order of arrival.

use super::capacity_forecast::CapacityForecast;
use crate::{
    clock::Time,
    shared::{Padded, lock},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
    time::Duration,
};

/// All queues of a limiter: one for each key that somebody waits for.
///
/// # Invariants
/// 1. `busy` is the number of shards whose `waiting` is not 0.
/// 2. `waiting` is the number of calls in the shard's queues, and of arrivals that hold its lock.
///    It is written under that lock only.
/// 3. No queue is empty.
/// 4. The number of shards is a power of two.
#[derive(Debug)]
pub(super) struct WaitQueues {
    shards: Box<[Padded<Shard>]>,
    /// What all arrivals look at, and hardly ever written.
    busy: Padded<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shard {
    waiting: AtomicUsize,
    queues: Mutex<HashMap<u64, WaitQueue>>,
}

impl WaitQueues {
    /// Makes that many shards, which must be a power of two.
    pub(super) fn new(shards: usize) -> Self {
        debug_assert!(shards.is_power_of_two(), "{shards} shards");
        Self {
            shards: (0..shards).map(|_| Padded::default()).collect(),
            busy: Padded::default(),
        }
    }

    /// Returns whether nobody waits for this key, or for those that share its shard.
    #[inline]
    pub(super) fn is_empty(&self, key: u64) -> bool {
        self.busy.0.load(SeqCst) == 0 || self.shard(key).waiting.load(SeqCst) == 0
    }

    pub(super) fn lock(&self, key: u64) -> LockedQueues<'_> {
        let Shard { waiting, queues } = self.shard(key);
        LockedQueues {
            busy: &self.busy.0,
            waiting,
            queues: lock(queues),
        }
    }

    /// Lets the first in the queue look again, because something has become free.
    #[cold]
    pub(super) fn wake(&self, key: u64) {
        let waker = self.lock(key).take_first_waker(key);
        // Not under the lock: the task may be run, or dropped, in here.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns how many calls wait.
    pub(super) fn waiting(&self) -> usize {
        let waiting = self.shards.iter().map(|shard| &shard.0.waiting);
        waiting.map(|waiting| waiting.load(SeqCst)).sum()
    }

    fn shard(&self, key: u64) -> &Shard {
        &self.shards[key as usize & (self.shards.len() - 1)].0
    }
}

/// The queues of one shard, locked. The wakers that it returns are to be woken or dropped without
/// the lock.
pub(super) struct LockedQueues<'a> {
    busy: &'a AtomicUsize,
    waiting: &'a AtomicUsize,
    queues: MutexGuard<'a, HashMap<u64, WaitQueue>>,
}

impl LockedQueues<'_> {
    /// Returns the queue for this key, if anybody waits for it.
    pub(super) fn queue(&self, key: u64) -> Option<&WaitQueue> {
        self.queues.get(&key)
    }

    /// Counts an arrival that may come to wait, before it looks at the quota: from here on whoever
    /// gives something back looks for waiting calls, so the arrival sees that, or is woken for it.
    pub(super) fn announce(&self) {
        if self.waiting.fetch_add(1, SeqCst) == 0 {
            self.busy.fetch_add(1, SeqCst);
        }
    }

    /// Takes back an announcement, because the arrival does not wait.
    pub(super) fn withdraw(&self) {
        let waiting = self.waiting.fetch_sub(1, SeqCst);
        debug_assert!(waiting > 0, "an arrival that was not announced");
        if waiting == 1 {
            let busy = self.busy.fetch_sub(1, SeqCst);
            debug_assert!(busy > 0, "a shard that was not counted");
        }
    }

    /// Puts an announced arrival at the end of the queue. Returns its place.
    pub(super) fn join(&mut self, key: u64, call: WaitingCall) -> u64 {
        let queue = self.queues.entry(key).or_default();
        let id = queue.next_id;
        queue.next_id += 1;
        queue.insert(id, call);
        id
    }

    /// Looks at those in front, on behalf of a call that comes by: puts out whose wait is over, and
    /// lets the one who does not take its turn be passed. So nobody is held up by a task that does
    /// not poll its call. The forecast is only asked for if somebody waits, other than `own`.
    pub(super) fn come_by(
        &mut self,
        key: u64,
        own: Option<u64>,
        now: Time,
        forecast: impl FnOnce() -> CapacityForecast,
    ) -> Passed {
        let mut passed = Passed::default();
        let Some(queue) = self.queues.get_mut(&key) else {
            return passed;
        };
        let before = queue.waiting();
        let over = |(id, call): (&u64, &WaitingCall)| {
            (call.until <= now && Some(*id) != own).then_some(*id)
        };
        while let Some(id) = queue.calls.iter().next().and_then(over) {
            passed
                .wake
                .extend(queue.remove(id).and_then(|call| call.waker));
        }
        while let Some(id) = queue.late.iter().next().and_then(over) {
            passed
                .wake
                .extend(queue.remove(id).and_then(|call| call.waker));
        }
        if queue.calls.keys().next().is_some_and(|id| Some(*id) != own) {
            let forecast = passed.forecast.insert(forecast());
            queue.pass_late(own, now, forecast, &mut passed.wake);
        }
        let left = before - queue.waiting();
        if queue.waiting() == 0 {
            self.queues.remove(&key);
        }
        (0..left).for_each(|_| self.withdraw());
        passed
    }

    /// Returns whether this call waits; it does not if its wait was over.
    pub(super) fn is_waiting(&self, key: u64, id: u64) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| queue.calls.contains_key(&id) || queue.late.contains_key(&id))
    }

    /// Returns whether it is the turn of this call: it is the first, or was passed by others.
    pub(super) fn is_first(&self, key: u64, id: u64) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| {
            queue.calls.keys().next() == Some(&id) || queue.late.contains_key(&id)
        })
    }

    /// Notes that it is the turn of the first call, which is the first again if it was passed, and
    /// that it will find room then.
    pub(super) fn set_turn(&mut self, key: u64, id: u64, turn: Time) {
        if let Some(queue) = self.queues.get_mut(&key)
            && let Some(mut call) = queue.remove(id)
        {
            call.turn = Some(turn);
            queue.insert(id, call);
        }
    }

    /// Returns when a call that is not the first has to look at those in front of it: when it
    /// should have been let in long since, and then half as often each time.
    pub(super) fn look_at(&self, key: u64, id: u64, now: Time) -> Time {
        let queue = self.queues.get(&key);
        let expected = queue.and_then(|queue| Some(queue.calls.get(&id)?.expected));
        let overdue = expected.map_or(Duration::ZERO, |expected| now.since(expected));
        expected.unwrap_or(now).max(now).after(overdue.max(GRACE))
    }

    /// Takes a call out of the queue, if it has not been put out. Returns its own waker and, if it
    /// was the first, that of the next.
    pub(super) fn leave(&mut self, key: u64, id: u64, now: Time) -> Departure {
        let was_first = self.is_first(key, id);
        let queue = self.queues.get_mut(&key);
        let left = queue.and_then(|queue| Some((queue.remove(id)?, queue)));
        let Some((call, queue)) = left else {
            return Departure::default();
        };
        if was_first && let Some(next) = queue.calls.values_mut().next() {
            next.turn.get_or_insert(now);
        }
        if queue.waiting() == 0 {
            debug_assert_eq!((queue.total_cost, queue.weighted), (0, 0));
            self.queues.remove(&key);
        }
        self.withdraw();
        let next = match was_first {
            true => self.take_first_waker(key),
            false => None,
        };
        Departure {
            _own: call.waker,
            next,
        }
    }

    /// Notes whom to wake. Returns the former waker.
    pub(super) fn set_waker(&mut self, key: u64, id: u64, waker: &Waker) -> Option<Waker> {
        let queue = self.queues.get_mut(&key);
        let call = queue.and_then(|queue| match queue.calls.get_mut(&id) {
            None => queue.late.get_mut(&id),
            call => call,
        });
        debug_assert!(
            call.is_some(),
            "nobody would wake a call that does not wait"
        );
        match &mut call?.waker {
            Some(noted) if noted.will_wake(waker) => None,
            noted => noted.replace(waker.clone()),
        }
    }

    fn take_first_waker(&mut self, key: u64) -> Option<Waker> {
        let mut first = self.queues.get_mut(&key)?.calls.first_entry()?;
        first.get_mut().waker.take()
    }
}

/// The wakers of a call that left a queue, and of the one that is the first now.
#[derive(Debug, Default)]
pub(super) struct Departure {
    _own: Option<Waker>,
    next: Option<Waker>,
}

impl Departure {
    /// Lets the next one look, once the lock is gone.
    pub(super) fn wake_next(self) {
        if let Some(next) = self.next {
            next.wake();
        }
    }
}

/// Whom to wake, without the lock, of those who were put out or are held to take their turn.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Passed {
    wake: Vec<Waker>,
    /// What was forecast for that. It holds as long as the lock does, until something is taken.
    forecast: Option<CapacityForecast>,
}

impl Passed {
    /// Returns the forecast, which is made now if none was needed before.
    pub(super) fn forecast(
        &mut self,
        forecast: impl FnOnce() -> CapacityForecast,
    ) -> CapacityForecast {
        self.forecast.take().unwrap_or_else(forecast)
    }

    pub(super) fn wake(self) {
        self.wake.into_iter().for_each(Waker::wake);
    }
}

/// For how long the first may leave its turn untaken before others pass it. Tasks that are polled
/// when they are woken, on a runtime that is not stuck, take much less.
const GRACE: Duration = Duration::from_millis(100);

/// Calls that wait for one key.
///
/// # Invariants
/// 1. Ids ascend in the order of arrival, and are not used twice while anybody waits.
/// 2. `total_cost` and `weighted` are sums over all of `calls`.
/// 3. A call is in `calls` or in `late`: then it has let others pass, and stands in front of all of
///    them when it is polled.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    next_id: u64,
    calls: BTreeMap<u64, WaitingCall>,
    late: BTreeMap<u64, WaitingCall>,
    /// What they cost together.
    total_cost: u64,
    /// How many of them cost something other than 1.
    weighted: usize,
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
    waker: Option<Waker>,
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

    fn waiting(&self) -> usize {
        self.calls.len() + self.late.len()
    }

    fn insert(&mut self, id: u64, call: WaitingCall) {
        self.total_cost += u64::from(call.cost);
        self.weighted += usize::from(call.cost != 1);
        self.calls.insert(id, call);
    }

    fn remove(&mut self, id: u64) -> Option<WaitingCall> {
        let Some(call) = self.calls.remove(&id) else {
            return self.late.remove(&id);
        };
        self.total_cost -= u64::from(call.cost);
        self.weighted -= usize::from(call.cost != 1);
        Some(call)
    }

    /// Passes those in front who find room and have not taken it, and wakes the one who finds it
    /// now.
    fn pass_late(
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
            let turn = *first.turn.get_or_insert(now);
            wake.extend(first.waker.take());
            if now < turn.after(GRACE) {
                return;
            }
            if let Some(call) = self.remove(id) {
                self.late.insert(id, call);
            }
        }
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
