//! The limit: permits, those who wait for them, and how a permit gets from one to the other.
//!
//! While nobody waits, a call takes a permit from its thread's stripe and gives it back to one, and
//! otherwise only reads `attention`, a word that nobody writes. Whoever has to wait locks the
//! line, joins it, sets `attention`, and **then** looks for a permit once more. Whoever gives one
//! back puts it into a stripe and **then** reads `attention`. So at least one of the two sees the
//! other, and a permit is never left lying while someone waits (model-checked in
//! `tests/loom_load_shed`). The same holds for a thief, who for a moment holds permits that
//! nobody can see.

use super::{
    Time,
    queue::{Discipline, Line, Lost, Ticket, Turn},
    stripes::Stripes,
    sync::{AtomicUsize, Mutex, MutexGuard, Padded, Relaxed, SeqCst},
};
use std::{sync::PoisonError, task::Waker};

const WAITING: usize = 1;
const OWED: usize = 2;

/// How many are woken without letting go of the lock in between.
const WOKEN: usize = 16;

#[derive(Debug)]
pub(super) struct Gate {
    stripes: Stripes,
    /// Whether someone waits, and whether permits are owed. While it is not 0, permits are handed
    /// out under the lock only.
    attention: Padded<AtomicUsize>,
    /// How many permits there are: the limit, and what is owed. Written when that changes.
    issued: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    line: Line,
    limit: usize,
    /// Permits of a limit that was lowered, to be taken out when they come back.
    owed: usize,
    /// How many were taken to pay what is owed.
    paid: u64,
    /// How many joined the line, and how many were taken for them.
    joined: u64,
    granted: u64,
}

/// What came of the wish to wait.
#[derive(Debug)]
pub(super) enum Enqueued {
    /// There was a permit after all.
    Admitted,
    Waiting(Ticket),
    /// The queue is full.
    Full,
}

/// The gate at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct GateCounts {
    pub(super) limit: usize,
    pub(super) in_flight: usize,
    pub(super) queued: usize,
    /// Calls let in, whether or not they had waited.
    pub(super) admitted: u64,
    /// Of these, the ones that had joined the line.
    pub(super) granted: u64,
    /// Calls and reservations that joined the line.
    pub(super) joined: u64,
    pub(super) lost: Lost,
}

type WakeList = [Option<Waker>; WOKEN];

impl Gate {
    pub(super) fn new(limit: usize, stripes: usize, discipline: Discipline) -> Self {
        Self {
            stripes: Stripes::new(limit, stripes),
            attention: Padded(AtomicUsize::new(0)),
            issued: AtomicUsize::new(limit),
            state: Mutex::new(State {
                line: Line::new(discipline),
                limit,
                owed: 0,
                paid: 0,
                joined: 0,
                granted: 0,
            }),
        }
    }

    /// Takes a permit if there is one that nobody waits for; says how many this slot took before.
    #[inline]
    pub(super) fn enter(&self, slot: usize, now: impl FnOnce() -> Time) -> Option<u32> {
        if self.attention.0.load(SeqCst) != 0 {
            return None;
        }
        match self.stripes.take_own(slot) {
            Some(count) => Some(count),
            None if self.stripes.still_empty(slot) => None,
            None => self.steal(slot, now),
        }
    }

    #[cold]
    fn steal(&self, slot: usize, now: impl FnOnce() -> Time) -> Option<u32> {
        let stolen = self.stripes.steal(slot);
        // While the permits were on the move nobody could see them.
        if stolen.is_some() && self.attention.0.load(SeqCst) != 0 {
            self.attend(slot, now());
        }
        stolen
    }

    /// Gives a permit back.
    #[inline]
    pub(super) fn exit(&self, slot: usize, now: impl FnOnce() -> Time) {
        self.stripes.put(slot, 1);
        if self.attention.0.load(SeqCst) != 0 {
            self.attend(slot, now());
        }
    }

    /// Whether a call would find no permit now. A look, not a promise.
    pub(super) fn is_full(&self) -> bool {
        self.attention.0.load(SeqCst) != 0 || self.stripes.free() == 0
    }

    /// Calls in flight. A look, not a promise.
    pub(super) fn in_flight(&self) -> usize {
        let issued = self.issued.load(Relaxed);
        issued.saturating_sub(self.stripes.free())
    }

    /// Joins the queue.
    #[cold]
    pub(super) fn join(
        &self,
        class: usize,
        deadline: Option<Time>,
        slot: usize,
        now: Time,
    ) -> Enqueued {
        let mut state = self.lock();
        let Some((ticket, evicted)) = state.line.join(class, deadline, now) else {
            return Enqueued::Full;
        };
        let joined = self.joined(state, ticket, slot, now);
        evicted.into_iter().for_each(Waker::wake);
        joined
    }

    /// Joins those who reserve.
    #[cold]
    pub(super) fn reserve(&self, slot: usize, now: Time) -> Enqueued {
        let mut state = self.lock();
        let ticket = state.line.reserve(now);
        self.joined(state, ticket, slot, now)
    }

    fn joined(
        &self,
        mut state: MutexGuard<'_, State>,
        ticket: Ticket,
        slot: usize,
        now: Time,
    ) -> Enqueued {
        state.joined += 1;
        // First the word, then the look for a permit that came back before it was set.
        self.attention.0.fetch_or(WAITING, SeqCst);
        let mut wakers = WakeList::default();
        let more = self.hand_over(&mut state, slot, now, &mut wakers);
        let (turn, _) = state.line.poll(&ticket, Waker::noop(), now);
        drop(state);
        wake(wakers);
        if more {
            self.attend(slot, now);
        }
        match turn {
            Turn::Granted => Enqueued::Admitted,
            Turn::Waiting(_) => Enqueued::Waiting(ticket),
            Turn::Out(_) => Enqueued::Full,
        }
    }

    /// What has become of a place in the line.
    pub(super) fn poll(&self, ticket: &Ticket, waker: &Waker, now: Time) -> Turn {
        let (turn, old) = self.lock().line.poll(ticket, waker, now);
        drop(old);
        turn
    }

    /// Leaves the line.
    #[cold]
    pub(super) fn leave(&self, ticket: &Ticket, slot: usize, now: impl FnOnce() -> Time) {
        let mut state = self.lock();
        let (granted, waker) = state.line.leave(ticket);
        if state.line.is_empty() {
            self.publish(&state);
        }
        drop(state);
        drop(waker);
        if granted {
            self.exit(slot, now);
        }
    }

    /// Changes the limit; calls that run are left to end. To be followed by
    /// [`attend`](Self::attend), which lets in whoever now may.
    #[cold]
    pub(super) fn set_limit(&self, limit: usize) {
        let mut state = self.lock();
        if limit >= state.limit {
            let more = limit - state.limit;
            let forgiven = more.min(state.owed);
            state.owed -= forgiven;
            self.issued.fetch_add(more - forgiven, Relaxed);
            self.stripes.spread(more - forgiven);
        } else {
            state.owed += state.limit - limit;
            self.attention.0.fetch_or(OWED, SeqCst);
        }
        state.limit = limit;
    }

    /// Permits may have come back that someone wants.
    #[cold]
    pub(super) fn attend(&self, slot: usize, now: Time) {
        loop {
            let mut wakers = WakeList::default();
            let mut state = self.lock();
            let more = self.hand_over(&mut state, slot, now, &mut wakers);
            drop(state);
            wake(wakers);
            if !more {
                return;
            }
        }
    }

    /// Takes what permits there are, first for what is owed and then for those who wait. True if
    /// there may be more to do.
    fn hand_over(&self, state: &mut State, slot: usize, now: Time, wakers: &mut WakeList) -> bool {
        while state.owed > 0 && self.take(slot) {
            state.owed -= 1;
            self.issued.fetch_sub(1, Relaxed);
            state.paid += 1;
        }
        let mut more = state.owed == 0;
        for waker in wakers {
            more = more && self.grant(state, slot, now, waker);
        }
        self.publish(state);
        more
    }

    fn grant(&self, state: &mut State, slot: usize, now: Time, waker: &mut Option<Waker>) -> bool {
        let Some(next) = state.line.next(now) else {
            return false;
        };
        if !self.take(slot) {
            return false;
        }
        state.granted += 1;
        *waker = state.line.grant(next);
        true
    }

    fn take(&self, slot: usize) -> bool {
        self.stripes.take_own(slot).is_some() || self.stripes.steal(slot).is_some()
    }

    fn publish(&self, state: &State) {
        let waiting = if state.line.is_empty() { 0 } else { WAITING };
        let attention = if state.owed > 0 {
            waiting | OWED
        } else {
            waiting
        };
        // Written under the lock only, so what is read here is the last that was written.
        if self.attention.0.load(SeqCst) != attention {
            self.attention.0.store(attention, SeqCst);
        }
    }

    pub(super) fn tally(&self) -> GateCounts {
        let state = self.lock();
        GateCounts {
            limit: state.limit,
            in_flight: self.in_flight(),
            queued: state.line.queued(),
            admitted: self.stripes.taken().saturating_sub(state.paid),
            granted: state.granted,
            joined: state.joined,
            lost: state.line.lost(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(wakers: WakeList) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}
