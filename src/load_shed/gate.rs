//! The limit: permits, those who wait for them, and how a permit gets from one to the other.
//!
//! While nobody waits, a call takes a permit from its thread's stripe and gives it back to one, and
//! otherwise only reads `waiters_or_deficit`, a word that nobody writes. All else happens under the
//! lock of the line.

use super::{
    Time,
    queue::{Discipline, Line, Lost, Ticket, Turn},
    stripes::{MAX_LIMIT, Stripes},
    sync::{AtomicUsize, Mutex, MutexGuard, Padded, Relaxed, SeqCst},
};
use std::{sync::PoisonError, task::Waker};

const WAITING: usize = 1;
const DEFICIT: usize = 2;

/// How many are woken without letting go of the lock in between.
const WOKEN: usize = 16;

/// The permits of one limit, and the line of those who wait for them.
///
/// # Invariants
/// 1. A permit is in one stripe or in use. `issued` says how many there are: the limit, and the
///    deficit that a lowered limit has left.
/// 2. Whoever joins the line does so under the lock, sets `waiters_or_deficit`, and **then** looks
///    for a permit once more. Whoever gives one back puts it into a stripe and **then** reads
///    `waiters_or_deficit`. So at least one of the two sees the other, and no permit is left lying
///    while someone waits (model-checked in `tests/loom_load_shed`). The same holds for a thief,
///    who for a moment holds permits that nobody can see.
/// 3. While `waiters_or_deficit` is not 0, permits are handed out under the lock only: first to pay
///    the deficit, then to those who wait. It is put back to 0 under the lock only.
/// 4. No waker is cloned, woken or dropped under the lock: all of these may run code of the
///    application, which may come back here.
#[derive(Debug)]
pub(super) struct Gate {
    stripes: Stripes,
    /// `WAITING` if someone waits, and `DEFICIT` if there is one.
    waiters_or_deficit: Padded<AtomicUsize>,
    /// Written when the number of permits changes.
    issued: AtomicUsize,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    line: Line,
    limit: usize,
    /// How many permits a limit that was lowered leaves too many: taken out as they come back.
    deficit: usize,
    /// How many permits were taken to pay deficits.
    deficit_paid: u64,
    /// How many joined the line, and how many permits were taken for them.
    joined: u64,
    granted: u64,
}

/// What came of the wish to wait.
#[derive(Debug)]
pub(super) enum Enqueued {
    /// There was a permit after all.
    Admitted,
    /// There was none: this is the place in the line.
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
        debug_assert!((1..=MAX_LIMIT).contains(&limit), "a limit of {limit}");
        Self {
            stripes: Stripes::new(limit, stripes),
            waiters_or_deficit: Padded(AtomicUsize::new(0)),
            issued: AtomicUsize::new(limit),
            state: Mutex::new(State {
                line: Line::new(discipline),
                limit,
                deficit: 0,
                deficit_paid: 0,
                joined: 0,
                granted: 0,
            }),
        }
    }

    /// Takes a permit if there is one that nobody waits for, and returns how many this slot took
    /// before.
    #[inline]
    pub(super) fn enter(&self, slot: usize, now: impl FnOnce() -> Time) -> Option<u32> {
        if self.waiters_or_deficit.0.load(SeqCst) != 0 {
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
        if stolen.is_some() && self.waiters_or_deficit.0.load(SeqCst) != 0 {
            self.attend(slot, now());
        }
        stolen
    }

    /// Gives a permit back.
    #[inline]
    pub(super) fn exit(&self, slot: usize, now: impl FnOnce() -> Time) {
        self.stripes.put(slot, 1);
        if self.waiters_or_deficit.0.load(SeqCst) != 0 {
            self.attend(slot, now());
        }
    }

    /// Returns whether a call would find no permit now. A look, not a promise.
    pub(super) fn is_full(&self) -> bool {
        self.waiters_or_deficit.0.load(SeqCst) != 0 || self.stripes.free() == 0
    }

    /// Returns how many permits are free. A look, not a promise.
    pub(super) fn free(&self) -> usize {
        self.stripes.free()
    }

    /// Returns how many are in use when so many are free. A look, not a promise.
    pub(super) fn in_use(&self, free: usize) -> usize {
        self.issued.load(Relaxed).saturating_sub(free)
    }

    /// Joins the queue of requests.
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

    /// Joins those who reserve a permit for a request to come.
    #[cold]
    pub(super) fn reserve(&self, slot: usize, now: Time) -> Enqueued {
        let mut state = self.lock();
        let ticket = state.line.reserve(now);
        self.joined(state, ticket, slot, now)
    }

    /// Looks for a permit once more, and returns what has become of who has just joined.
    fn joined(
        &self,
        mut state: MutexGuard<'_, State>,
        ticket: Ticket,
        slot: usize,
        now: Time,
    ) -> Enqueued {
        state.joined += 1;
        // First the word, then the look for a permit that came back before it was set.
        self.waiters_or_deficit.0.fetch_or(WAITING, SeqCst);
        let mut wakers = WakeList::default();
        let more = self.hand_over(&mut state, slot, now, &mut wakers);
        // Nobody has been told yet of whom to wake for it.
        let (turn, waker) = state.line.poll(&ticket, now);
        drop(state);
        debug_assert!(
            waker.is_none(),
            "the waker of a place that was never polled"
        );
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

    /// Returns what has become of a place in the line.
    pub(super) fn poll(&self, ticket: &Ticket, waker: &Waker, now: Time) -> Turn {
        // Before it is known whether it is needed: under the lock it would be too late.
        let waker = waker.clone();
        let mut state = self.lock();
        let (turn, old) = state.line.poll(ticket, now);
        let spare = match turn {
            Turn::Waiting(_) => state.line.set_waker(ticket, waker),
            Turn::Granted | Turn::Out(_) => Some(waker),
        };
        drop(state);
        drop((old, spare));
        turn
    }

    /// Leaves the line, and passes on the permit if there was one already.
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
        debug_assert!((1..=MAX_LIMIT).contains(&limit), "a limit of {limit}");
        let mut state = self.lock();
        if limit >= state.limit {
            let more = limit - state.limit;
            let forgiven = more.min(state.deficit);
            state.deficit -= forgiven;
            self.issued.fetch_add(more - forgiven, Relaxed);
            self.stripes.spread(more - forgiven);
        } else {
            state.deficit += state.limit - limit;
            self.waiters_or_deficit.0.fetch_or(DEFICIT, SeqCst);
        }
        state.limit = limit;
    }

    /// Hands over permits that have come back to those who want them.
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

    /// Takes what permits there are, first to pay the deficit and then for those who wait. Returns
    /// whether there may be more to do.
    fn hand_over(&self, state: &mut State, slot: usize, now: Time, wakers: &mut WakeList) -> bool {
        while state.deficit > 0 && self.take(slot) {
            state.deficit -= 1;
            self.issued.fetch_sub(1, Relaxed);
            state.deficit_paid += 1;
        }
        let mut more = state.deficit == 0;
        for waker in wakers {
            more = more && self.grant(state, slot, now, waker);
        }
        self.publish(state);
        more
    }

    /// Takes a permit for who is next in line. Returns whether there was somebody, and a permit.
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

    /// Writes down whether someone waits and whether there is a deficit, for those without the
    /// lock.
    fn publish(&self, state: &State) {
        let waiting = if state.line.is_empty() { 0 } else { WAITING };
        let deficit = if state.deficit > 0 { DEFICIT } else { 0 };
        let word = waiting | deficit;
        // Written under the lock only, so what is read here is the last that was written.
        if self.waiters_or_deficit.0.load(SeqCst) != word {
            self.waiters_or_deficit.0.store(word, SeqCst);
        }
    }

    /// Returns the counts of this moment.
    pub(super) fn counts(&self) -> GateCounts {
        let state = self.lock();
        debug_assert!(state.granted <= state.joined, "granted to who never joined");
        debug_assert_eq!(
            self.issued.load(Relaxed),
            state.limit + state.deficit,
            "permits that nobody knows of"
        );
        let admitted = self.stripes.taken().saturating_sub(state.deficit_paid);
        debug_assert!(state.granted <= admitted, "granted, and yet not let in");
        GateCounts {
            limit: state.limit,
            in_flight: self.in_use(self.free()),
            queued: state.line.queued(),
            admitted,
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
