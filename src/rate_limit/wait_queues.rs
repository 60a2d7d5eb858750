//! Who waits for which key: the queues of a limiter, under locks.
//!
//! Wakers are the application's code: under a lock they are only moved and compared, and cloned,
//! woken and dropped without it.

use super::{
    capacity_forecast::CapacityForecast,
    wait_queue::{GRACE, WaitQueue, WaitingCall},
};
use crate::{
    clock::Time,
    key_table::PrehashedMap,
    shared::{Padded, lock},
};
use std::{
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
    queues: Mutex<PrehashedMap<WaitQueue>>,
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

    /// Lets the first in every queue look again.
    pub(super) fn wake_all(&self) {
        for shard in &self.shards {
            let mut queues = lock(&shard.0.queues);
            let firsts = queues.values_mut().filter_map(WaitQueue::take_first_waker);
            let firsts: Vec<_> = firsts.collect();
            drop(queues);
            firsts.into_iter().for_each(Waker::wake);
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
    queues: MutexGuard<'a, PrehashedMap<WaitQueue>>,
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
        self.queues.entry(key).or_default().join(call)
    }

    /// Returns what a call of this cost was last told, if somebody waits and that still holds.
    #[inline]
    pub(super) fn refusal(&self, key: u64, cost: u32, now: Time) -> Option<Option<u64>> {
        self.queues.get(&key)?.refusal(cost, now)
    }

    /// Returns when a call of this cost that will not wait would be admitted, and notes it for
    /// those that come after it.
    pub(super) fn refuse(
        &mut self,
        key: u64,
        cost: u32,
        now: Time,
        forecast: CapacityForecast,
    ) -> Option<u64> {
        self.queues.get_mut(&key)?.refuse(forecast, cost, now)
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
        queue.put_out(own, now, &mut passed.wake);
        if queue.first().is_some_and(|id| Some(id) != own) {
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
        queue.is_some_and(|queue| queue.is_waiting(id))
    }

    /// Returns whether it is the turn of this call: it is the first, or was passed by others.
    pub(super) fn is_first(&self, key: u64, id: u64) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| queue.is_first(id))
    }

    /// Notes that it is the turn of the first call, which is the first again if it was passed, and
    /// that it will find room then.
    pub(super) fn set_turn(&mut self, key: u64, id: u64, turn: Time) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.set_turn(id, turn);
        }
    }

    /// Returns when a call that is not the first has to look at those in front of it: when it
    /// should have been let in long since, and then half as often each time.
    pub(super) fn look_at(&self, key: u64, id: u64, now: Time) -> Time {
        let queue = self.queues.get(&key);
        let expected = queue.and_then(|queue| queue.expected(id));
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
        if was_first {
            queue.begin_turn(now);
        }
        if queue.waiting() == 0 {
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

    /// Notes whom to wake. Returns the waker that is not needed any more, or was not.
    #[must_use = "it is to be dropped without the lock"]
    pub(super) fn set_waker(&mut self, key: u64, id: u64, waker: Waker) -> Option<Waker> {
        let queue = self.queues.get_mut(&key);
        let call = queue.and_then(|queue| queue.get_mut(id));
        debug_assert!(
            call.is_some(),
            "nobody would wake a call that does not wait"
        );
        let Some(call) = call else {
            return Some(waker);
        };
        match &mut call.waker {
            Some(noted) if noted.will_wake(&waker) => Some(waker),
            noted => noted.replace(waker),
        }
    }

    fn take_first_waker(&mut self, key: u64) -> Option<Waker> {
        self.queues.get_mut(&key)?.take_first_waker()
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
