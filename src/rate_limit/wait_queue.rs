//! Who waits for which key, in the order of arrival.

use crate::{rate_limit::forecast::Supply, shared::Padded};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

/// All lines of a limiter: one for each key that somebody waits for.
#[derive(Debug)]
pub(in crate::rate_limit) struct Lines {
    shards: Box<[Padded<Shard>]>,
    /// Shards in which somebody waits: what all arrivals look at, and hardly ever written.
    busy: Padded<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Calls in the lines.
    waiting: AtomicUsize,
    lines: Mutex<HashMap<u64, Line>>,
}

impl Lines {
    /// A power of two of shards.
    pub(in crate::rate_limit) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Padded::default()).collect(),
            busy: Padded::default(),
        }
    }

    /// Whether nobody waits for this key, or for those that share its shard.
    #[inline]
    pub(in crate::rate_limit) fn is_empty(&self, key: u64) -> bool {
        self.busy.0.load(SeqCst) == 0 || self.of(key).waiting.load(SeqCst) == 0
    }

    pub(in crate::rate_limit) fn lock(&self, key: u64) -> Locked<'_> {
        let Shard { waiting, lines } = self.of(key);
        Locked {
            busy: &self.busy.0,
            waiting,
            lines: lines.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Something has become free: lets the first in line look.
    #[cold]
    pub(in crate::rate_limit) fn wake(&self, key: u64) {
        let waker = self.lock(key).first(key);
        // Not under the lock: the task may be run, or dropped, in here.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(in crate::rate_limit) fn waiting(&self) -> usize {
        let waiting = self.shards.iter().map(|shard| &shard.0.waiting);
        waiting.map(|waiting| waiting.load(SeqCst)).sum()
    }

    fn of(&self, key: u64) -> &Shard {
        &self.shards[key as usize & (self.shards.len() - 1)].0
    }
}

/// The lines of one shard, locked. What it returns is to be woken or dropped without the lock.
pub(in crate::rate_limit) struct Locked<'a> {
    busy: &'a AtomicUsize,
    waiting: &'a AtomicUsize,
    lines: MutexGuard<'a, HashMap<u64, Line>>,
}

impl Locked<'_> {
    pub(in crate::rate_limit) fn line(&self, key: u64) -> Option<&Line> {
        self.lines.get(&key)
    }

    /// Counts an arrival that may come to stand in line. From here on a call that gives something
    /// back looks for it, so what it looks at afterwards is not out of date.
    pub(super) fn announce(&self) {
        if self.waiting.fetch_add(1, SeqCst) == 0 {
            self.busy.fetch_add(1, SeqCst);
        }
    }

    /// It does not.
    pub(super) fn withdraw(&self) {
        if self.waiting.fetch_sub(1, SeqCst) == 1 {
            self.busy.fetch_sub(1, SeqCst);
        }
    }

    /// It does.
    pub(super) fn join(&mut self, key: u64, cost: u32) -> u64 {
        let line = self.lines.entry(key).or_default();
        let id = line.next;
        line.next += 1;
        line.owed += u64::from(cost);
        line.uneven += usize::from(cost != 1);
        line.waiters.insert(id, Waiter { cost, waker: None });
        id
    }

    pub(super) fn is_first(&self, key: u64, id: u64) -> bool {
        let first = self.lines.get(&key).and_then(|l| l.waiters.keys().next());
        first == Some(&id)
    }

    /// Leaves the line. Returns the waiter's own waker and, if it was the first, that of the next.
    pub(super) fn leave(&mut self, key: u64, id: u64) -> Left {
        let was_first = self.is_first(key, id);
        let Some(line) = self.lines.get_mut(&key) else {
            return Left::default();
        };
        let Some(waiter) = line.waiters.remove(&id) else {
            return Left::default();
        };
        line.owed -= u64::from(waiter.cost);
        line.uneven -= usize::from(waiter.cost != 1);
        if line.waiters.is_empty() {
            self.lines.remove(&key);
        }
        self.withdraw();
        let next = if was_first { self.first(key) } else { None };
        Left {
            _own: waiter.waker,
            next,
        }
    }

    /// Notes whom to wake. Returns the former waker.
    pub(super) fn park(&mut self, key: u64, id: u64, waker: &Waker) -> Option<Waker> {
        let line = self.lines.get_mut(&key)?;
        let noted = &mut line.waiters.get_mut(&id)?.waker;
        match noted {
            Some(noted) if noted.will_wake(waker) => None,
            noted => noted.replace(waker.clone()),
        }
    }

    fn first(&mut self, key: u64) -> Option<Waker> {
        let mut first = self.lines.get_mut(&key)?.waiters.first_entry()?;
        first.get_mut().waker.take()
    }
}

/// What is left of a waiter that left.
#[derive(Debug, Default)]
pub(super) struct Left {
    _own: Option<Waker>,
    next: Option<Waker>,
}

impl Left {
    /// Once the lock is gone.
    pub(super) fn wake_next(self) {
        if let Some(next) = self.next {
            next.wake();
        }
    }
}

/// Calls that wait for one key.
#[derive(Debug, Default)]
pub(in crate::rate_limit) struct Line {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    /// What they cost together.
    owed: u64,
    /// How many of them cost something other than 1.
    uneven: usize,
}

#[derive(Debug)]
struct Waiter {
    cost: u32,
    waker: Option<Waker>,
}

/// Longer lines of uneven costs are not walked for every arrival; the forecast is a lower bound
/// then, and a wait that it should have refused ends at its maximum.
const WALK: usize = 1024;

impl Line {
    pub(in crate::rate_limit) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// When a call that joins the end of this line is admitted; `None` if it never is.
    pub(in crate::rate_limit) fn forecast(&self, supply: Supply, cost: u32) -> Option<u64> {
        if !supply.fits(cost) {
            return None;
        }
        // A call of any cost behind calls of cost 1 is told exactly without a walk.
        if self.uneven == 0 || self.waiters.len() > WALK {
            return Some(supply.at_least(self.owed, cost));
        }
        let costs = self.waiters.values().map(|waiter| waiter.cost);
        Some(supply.exactly(costs, cost))
    }
}
