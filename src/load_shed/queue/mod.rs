//! Who waits for a permit, who is next, and who has waited too long.
//!
//! The discipline is the one of "Fail at Scale" (Maurer, ACM Queue 2015): a request may wait for
//! `wait` while the queue is well, and only for `overloaded_wait` when the queue has not been empty
//! for `overloaded_after`, and then the newest goes first, since the oldest are about to be given
//! up. Each class has a queue of its own, and a higher class always goes first.
//!
//! The detector must be "has not been empty", not CoDel's minimum delay: serving the newest first
//! makes the minimum delay nothing, which would switch the overload off and serve stale heads.

mod list;

use super::Time;
use list::{List, NodeKey, Slab};
use std::{cmp::Reverse, collections::BinaryHeap, task::Waker};

/// How many classes of requests there are; 0 goes first.
pub(super) const CLASSES: usize = 4;
/// The last lane: services that reserve permits before they have a request.
const RESERVE: usize = CLASSES;

/// How many expiries may be kept of requests that do not wait any more.
const SPARE: usize = 64;

/// How long may be waited, and by how many. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discipline {
    pub(super) capacity: usize,
    pub(super) wait: u64,
    pub(super) overloaded_wait: u64,
    pub(super) overloaded_after: u64,
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Ticket(NodeKey);

/// What has become of a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It is its turn, and the permit is its.
    Granted,
    Out(LeftBecause),
    /// Not before this time is it out.
    Waiting(Time),
}

/// Why a place was lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeftBecause {
    /// It waited for as long as it may.
    Waited,
    /// Its caller's deadline has passed.
    Late,
    /// The queue was full, and a newer or more important request took the place.
    Evicted,
}

/// How many places were lost, and why.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lost {
    pub(super) waited: u64,
    pub(super) late: u64,
    pub(super) evicted: u64,
}

/// Those who wait for a permit, class by class, and the services that reserve one.
///
/// # Invariants
/// 1. A place is in the list of its lane while it waits, and in none once it is granted or out.
/// 2. `queued` is the number of requests that wait, and never above the capacity. Reservations do
///    not count, and are never put out.
/// 3. Every request that waits is among the `expiries`, which are at most twice as many as wait,
///    and `SPARE` more.
/// 4. Wakers are taken in and handed out, and neither cloned nor dropped here: either may run code
///    that comes back here.
#[derive(Debug)]
pub(super) struct Line {
    discipline: Discipline,
    waiters: Slab<Waiter>,
    lanes: [Lane; CLASSES + 1],
    queued: usize,
    /// When each of the requests expires, the next one first, and a few that wait no longer.
    expiries: BinaryHeap<Reverse<(Time, NodeKey)>>,
    /// Whether the next permit goes to a reservation if a request waits, too.
    reserve_next: bool,
    lost: Lost,
}

#[derive(Debug)]
struct Lane {
    list: List,
    /// When it was empty last, while it is not.
    since: Time,
}

#[derive(Debug)]
struct Waiter {
    lane: usize,
    expires: Time,
    late: bool,
    place: QueuePlace,
}

#[derive(Debug)]
enum QueuePlace {
    Waiting(Option<Waker>),
    Granted,
    /// Its waker stays until it is asked for: dropping one may run code that comes back here.
    Out(LeftBecause, Option<Waker>),
}

impl Line {
    pub(super) fn new(discipline: Discipline) -> Self {
        let lane = |_| Lane {
            list: List::new(),
            since: Time::from_nanos(0),
        };
        Self {
            discipline,
            waiters: Slab::new(),
            lanes: std::array::from_fn(lane),
            queued: 0,
            expiries: BinaryHeap::new(),
            reserve_next: false,
            lost: Lost::default(),
        }
    }

    /// Returns how many requests wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.list.is_empty())
    }

    /// Adds a request, unless the queue is full of others that go before it. Who had to give way to
    /// it is to be woken.
    pub(super) fn join(
        &mut self,
        class: usize,
        deadline: Option<Time>,
        now: Time,
    ) -> Option<(Ticket, Option<Waker>)> {
        let class = class.min(CLASSES - 1);
        if self.queued >= self.discipline.capacity {
            self.expire(now);
        }
        let mut evicted = None;
        if self.queued >= self.discipline.capacity {
            let victim = (class..CLASSES).rev().find_map(|of| {
                let oldest = self.lanes.get(of)?.list.oldest(&self.waiters)?;
                (of > class || self.standing(of, now)).then_some(oldest)
            });
            let victim = victim?;
            self.put_out(victim, LeftBecause::Evicted);
            evicted = self.waiters.get_mut(victim).and_then(Waiter::waker);
        }
        let bound = match self.standing(class, now) {
            true => self.discipline.overloaded_wait,
            false => self.discipline.wait,
        };
        let bound = Time::from_nanos(now.as_nanos().saturating_add(bound));
        let late = deadline.is_some_and(|deadline| deadline <= bound);
        let expires = deadline.map_or(bound, |deadline| deadline.min(bound));
        self.queued += 1;
        debug_assert!(
            self.queued <= self.discipline.capacity,
            "more than may wait"
        );
        let key = self.push(
            Waiter {
                lane: class,
                expires,
                late,
                place: QueuePlace::Waiting(None),
            },
            now,
        );
        self.expires(expires, key);
        Some((Ticket(key), evicted))
    }

    /// Adds a service that wants a permit for a request that it does not have yet. It waits in
    /// order, for as long as it takes.
    pub(super) fn reserve(&mut self, now: Time) -> Ticket {
        Ticket(self.push(
            Waiter {
                lane: RESERVE,
                expires: Time::from_nanos(u64::MAX),
                late: false,
                place: QueuePlace::Waiting(None),
            },
            now,
        ))
    }

    fn push(&mut self, waiter: Waiter, now: Time) -> NodeKey {
        let lane = waiter.lane;
        let key = self.waiters.insert(waiter);
        if let Some(lane) = self.lanes.get_mut(lane) {
            if lane.list.is_empty() {
                lane.since = now;
            }
            lane.list.push(&mut self.waiters, key);
        }
        key
    }

    /// Returns whether this class has had someone waiting for longer than `overloaded_after`.
    fn standing(&self, class: usize, now: Time) -> bool {
        let overdue = |lane: &Lane| {
            !lane.list.is_empty()
                && now.as_nanos().saturating_sub(lane.since.as_nanos())
                    > self.discipline.overloaded_after
        };
        self.lanes.get(class).is_some_and(overdue)
    }

    /// Returns who gets the next permit. Those who have waited too long are put out on the way;
    /// they have timers of their own that will tell them.
    pub(super) fn next(&mut self, now: Time) -> Option<Next> {
        let reserved = self.lanes.get(RESERVE)?.list.oldest(&self.waiters);
        let queued = (0..CLASSES).find_map(|class| self.next_of(class, now));
        match (queued, reserved) {
            (Some(_), Some(reserved)) if self.reserve_next => Some(Next(reserved)),
            (queued, reserved) => queued.or(reserved).map(Next),
        }
    }

    fn next_of(&mut self, class: usize, now: Time) -> Option<NodeKey> {
        let newest_first = self.standing(class, now);
        loop {
            let list = &self.lanes.get(class)?.list;
            let key = match newest_first {
                true => list.newest(&self.waiters)?,
                false => list.oldest(&self.waiters)?,
            };
            let waiter = self.waiters.get_mut(key)?;
            if now < waiter.expires {
                return Some(key);
            }
            let why = waiter.too_late();
            self.put_out(key, why);
        }
    }

    /// Puts out all that have waited too long, whatever their class and whoever is in front of
    /// them: their tasks may be late, and their places are needed.
    fn expire(&mut self, now: Time) {
        while let Some(&Reverse((expires, key))) = self.expiries.peek()
            && expires <= now
        {
            self.expiries.pop();
            if let Some(waiter) = self.waiters.get_mut(key)
                && let QueuePlace::Waiting(_) = waiter.place
            {
                let why = waiter.too_late();
                self.put_out(key, why);
            }
        }
    }

    /// Notes when a request expires.
    fn expires(&mut self, expires: Time, key: NodeKey) {
        if self.expiries.len() >= 2 * self.queued + SPARE {
            let waiters = &mut self.waiters;
            self.expiries.retain(|Reverse((_, key))| {
                let waiter = waiters.get_mut(*key);
                waiter.is_some_and(|waiter| matches!(waiter.place, QueuePlace::Waiting(_)))
            });
        }
        self.expiries.push(Reverse((expires, key)));
    }

    /// Grants the permit to this one, who is to be woken.
    pub(super) fn grant(&mut self, next: Next) -> Option<Waker> {
        self.unlink(next.0);
        let waiter = self.waiters.get_mut(next.0)?;
        self.reserve_next = waiter.lane != RESERVE;
        let waker = waiter.waker();
        waiter.place = QueuePlace::Granted;
        waker
    }

    fn put_out(&mut self, key: NodeKey, why: LeftBecause) {
        debug_assert!(
            (self.waiters.get_mut(key)).is_some_and(|waiter| waiter.lane != RESERVE),
            "reservations are never put out"
        );
        match why {
            LeftBecause::Waited => self.lost.waited += 1,
            LeftBecause::Late => self.lost.late += 1,
            LeftBecause::Evicted => self.lost.evicted += 1,
        }
        self.unlink(key);
        if let Some(waiter) = self.waiters.get_mut(key) {
            waiter.place = QueuePlace::Out(why, waiter.waker());
        }
    }

    /// Takes someone who waits out of the line.
    fn unlink(&mut self, key: NodeKey) {
        let Some(waiter) = self.waiters.get_mut(key) else {
            return;
        };
        let lane = waiter.lane;
        if lane != RESERVE {
            debug_assert!(self.queued > 0, "a request that was not counted");
            self.queued = self.queued.saturating_sub(1);
        }
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.list.unlink(&mut self.waiters, key);
        }
    }

    /// Returns what has become of this place, and takes it away if it has been granted or lost. The
    /// waker that comes back is to be dropped where nothing is locked.
    pub(super) fn poll(&mut self, ticket: &Ticket, now: Time) -> (Turn, Option<Waker>) {
        let key = ticket.0;
        // A place that is no more was lost long ago.
        let gone = (Turn::Out(LeftBecause::Waited), None);
        let Some(waiter) = self.waiters.get_mut(key) else {
            return gone;
        };
        let (expires, why) = (waiter.expires, waiter.too_late());
        match waiter.place {
            QueuePlace::Waiting(_) if expires <= now => {
                self.put_out(key, why);
                (Turn::Out(why), self.remove(key))
            }
            QueuePlace::Waiting(_) => (Turn::Waiting(expires), None),
            QueuePlace::Granted => (Turn::Granted, self.remove(key)),
            QueuePlace::Out(why, _) => (Turn::Out(why), self.remove(key)),
        }
    }

    /// Sets who is woken for a place that waits. The waker that comes back, the one before or this
    /// one, is to be dropped where nothing is locked.
    pub(super) fn set_waker(&mut self, ticket: &Ticket, waker: Waker) -> Option<Waker> {
        match self
            .waiters
            .get_mut(ticket.0)
            .map(|waiter| &mut waiter.place)
        {
            Some(QueuePlace::Waiting(known)) => known.replace(waker),
            Some(QueuePlace::Granted | QueuePlace::Out(..)) | None => Some(waker),
        }
    }

    /// Gives the place up. Returns whether it had been granted, so that its permit must be given
    /// back.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> (bool, Option<Waker>) {
        let key = ticket.0;
        let granted = match self.waiters.get_mut(key).map(|waiter| &waiter.place) {
            Some(QueuePlace::Waiting(_)) => {
                self.unlink(key);
                false
            }
            Some(QueuePlace::Granted) => true,
            Some(QueuePlace::Out(..)) | None => false,
        };
        (granted, self.remove(key))
    }

    fn remove(&mut self, key: NodeKey) -> Option<Waker> {
        self.waiters.remove(key)?.waker()
    }
}

impl Waiter {
    fn waker(&mut self) -> Option<Waker> {
        match &mut self.place {
            QueuePlace::Waiting(waker) | QueuePlace::Out(_, waker) => waker.take(),
            QueuePlace::Granted => None,
        }
    }

    fn too_late(&self) -> LeftBecause {
        match self.late {
            true => LeftBecause::Late,
            false => LeftBecause::Waited,
        }
    }
}

/// Who gets the next permit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next(NodeKey);

#[cfg(test)]
mod tests;
