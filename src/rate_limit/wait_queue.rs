//! Who waits for which key, in the order of arrival.

use super::capacity_forecast::CapacityForecast;
use crate::shared::{Padded, lock};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
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
    pub(super) fn join(&mut self, key: u64, cost: u32) -> u64 {
        let queue = self.queues.entry(key).or_default();
        let id = queue.next_id;
        queue.next_id += 1;
        queue.total_cost += u64::from(cost);
        queue.weighted += usize::from(cost != 1);
        queue.calls.insert(id, WaitingCall { cost, waker: None });
        id
    }

    pub(super) fn is_first(&self, key: u64, id: u64) -> bool {
        let first = self.queues.get(&key).and_then(|q| q.calls.keys().next());
        first == Some(&id)
    }

    /// Takes a call out of the queue. Returns its own waker and, if it was the first, that of the
    /// next.
    pub(super) fn leave(&mut self, key: u64, id: u64) -> Departure {
        let was_first = self.is_first(key, id);
        let queue = self.queues.get_mut(&key);
        let left = queue.and_then(|queue| Some((queue.calls.remove(&id)?, queue)));
        debug_assert!(left.is_some(), "a call leaves that does not wait");
        let Some((call, queue)) = left else {
            return Departure::default();
        };
        queue.total_cost -= u64::from(call.cost);
        queue.weighted -= usize::from(call.cost != 1);
        if queue.calls.is_empty() {
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
        let call = queue.and_then(|queue| queue.calls.get_mut(&id));
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

/// Calls that wait for one key.
///
/// # Invariants
/// 1. Ids ascend in the order of arrival, and are not used twice while anybody waits.
/// 2. `total_cost` and `weighted` are sums over all calls.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    next_id: u64,
    calls: BTreeMap<u64, WaitingCall>,
    /// What they cost together.
    total_cost: u64,
    /// How many of them cost something other than 1.
    weighted: usize,
}

#[derive(Debug)]
struct WaitingCall {
    cost: u32,
    waker: Option<Waker>,
}

/// Longer queues of weighted calls are not walked for every arrival; the forecast is a lower bound
/// then, and a wait that it should have refused ends at its maximum.
const WALK: usize = 1024;

impl WaitQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns when a call that joins the end of this queue is admitted; `None` if it never is.
    pub(super) fn admits_at(&self, forecast: CapacityForecast, cost: u32) -> Option<u64> {
        if !forecast.fits(cost) {
            return None;
        }
        // A call of any cost behind calls of cost 1 is told exactly without a walk.
        if self.weighted == 0 || self.calls.len() > WALK {
            return Some(forecast.at_least(self.total_cost, cost));
        }
        let costs = self.calls.values().map(|call| call.cost);
        Some(forecast.exactly(costs, cost))
    }
}
