//! How the request is doing that a call works for: whether its body is still being sent, and
//! whether it broke off.
//!
//! The body is read by whoever needs it, in another task perhaps, while guards want to know about
//! it when calls end that were made on its behalf. So its state is in a table, and the
//! [context](crate::context) of those calls has its place there. The table is of a fixed size: a
//! request that finds no place is not watched, and its calls end as if it had gone well.

use crate::error::limiter;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

const SLOTS: usize = 1 << 16;
/// How many slots are looked at for a free one.
const LOOKS: usize = 16;

/// `generation:61 | taken:1 | waits:1 | failed:1`. The generation counts who had the slot: a body
/// that outlives its call must not speak for the next one. It wraps after 2^61 requests.
static STATES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static NEXT: AtomicU64 = AtomicU64::new(0);

const FAILED: u64 = 1;
const WAITS: u64 = 1 << 1;
const TAKEN: u64 = 1 << 2;
const GENERATION: u64 = 1 << 3;

/// The place of a request in the table, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestState {
    /// The word of the slot when it was taken; 0 for none.
    taken: u64,
    slot: u16,
}

impl RequestState {
    /// The state of a request that nobody watches.
    pub(crate) const UNWATCHED: Self = Self { taken: 0, slot: 0 };

    fn get(self) -> u64 {
        let word = STATES
            .get(usize::from(self.slot))
            .map_or(0, |slot| slot.load(Acquire));
        match self.taken != 0 && word & !(WAITS | FAILED) == self.taken {
            true => word,
            false => 0,
        }
    }

    /// Returns whether the body broke off before its end.
    pub(crate) fn has_failed(self) -> bool {
        self.get() & FAILED != 0
    }

    /// Returns whether somebody is reading the body, and waits for more of it.
    pub(crate) fn is_awaited(self) -> bool {
        self.get() & WAITS != 0
    }

    /// Notes that the body broke off.
    #[cfg(all(feature = "http", feature = "timeout"))]
    pub(crate) fn fail(self) {
        self.set(FAILED);
    }

    fn set(self, state: u64) {
        if let Some(slot) = STATES.get(usize::from(self.slot)) {
            let _ = slot.fetch_update(AcqRel, Acquire, |word| {
                let mine = word & !(WAITS | FAILED) == self.taken;
                (mine && self.taken != 0).then_some(self.taken | word & FAILED | state)
            });
        }
    }
}

/// Returns the word of a slot that is taken by the next generation.
const fn following(word: u64) -> u64 {
    word.wrapping_add(GENERATION) & !(GENERATION - 1) | TAKEN
}

/// A request that is being watched. Dropped, its place is free.
#[derive(Debug)]
pub(crate) struct WatchedRequest(RequestState);

impl WatchedRequest {
    /// Finds a place for a request; `None` if there is none.
    pub(crate) fn new() -> Option<Self> {
        let first = NEXT.fetch_add(1, Relaxed) as usize;
        (first..first.saturating_add(LOOKS)).find_map(|n| {
            let index = n % SLOTS;
            let slot = STATES.get(index)?;
            let word = slot.load(Acquire);
            let taken = following(word);
            let free = word & TAKEN == 0;
            (free && slot.compare_exchange(word, taken, AcqRel, Acquire).is_ok()).then(|| {
                Self(RequestState {
                    taken,
                    slot: index as u16,
                })
            })
        })
    }

    /// Returns what the calls made for it are told.
    pub(crate) fn state(&self) -> RequestState {
        self.0
    }
}

impl Drop for WatchedRequest {
    fn drop(&mut self) {
        if let Some(slot) = STATES.get(usize::from(self.0.slot)) {
            let free = self.0.taken & !TAKEN;
            slot.store(free, std::sync::atomic::Ordering::Release);
        }
    }
}

/// What the reader of a request's body says of it.
///
/// A body that a limit has cut off while it was waited for counts as waited for until the end of
/// its request.
#[derive(Debug)]
pub(crate) struct BodyReport {
    state: RequestState,
    waits: bool,
}

impl BodyReport {
    pub(crate) fn of(request: &WatchedRequest) -> Self {
        Self {
            state: request.state(),
            waits: false,
        }
    }

    /// Notes that more of the body is waited for, or no longer.
    pub(crate) fn waits(&mut self, waits: bool) {
        if self.waits != waits {
            self.waits = waits;
            self.state.set(if waits { WAITS } else { 0 });
        }
    }

    /// Notes that the body broke off.
    pub(crate) fn failed(&mut self) {
        self.waits = false;
        self.state.set(FAILED);
    }
}

impl Drop for BodyReport {
    fn drop(&mut self) {
        // Nobody waits for a body that is not there. But while a limit cuts off whoever did, guards
        // have yet to ask whether it was waited for, when their calls end.
        if limiter().is_none() {
            self.waits(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{context::Limiter, error::cut_off, shared::lock};
    use std::{collections::HashSet, sync::Mutex};

    /// One test takes all places, and another one needs some.
    static PLACES: Mutex<()> = Mutex::new(());

    #[test]
    fn a_body_speaks_for_its_own_request_only() {
        let _places = lock(&PLACES);
        let request = WatchedRequest::new().unwrap();
        let (state, mut report) = (request.state(), BodyReport::of(&request));
        assert!(!state.is_awaited() && !state.has_failed());
        report.waits(true);
        assert!(state.is_awaited() && !state.has_failed());
        report.failed();
        assert!(!state.is_awaited() && state.has_failed());
        report.waits(true);
        assert!(
            state.is_awaited() && state.has_failed(),
            "what failed stays so"
        );
        drop(report);
        assert!(!state.is_awaited() && state.has_failed());

        // The place goes to another request, and a body of the former one is still about.
        let mut late = BodyReport::of(&request);
        drop(request);
        assert!(!state.has_failed());
        let slot = usize::from(state.slot);
        let again = loop {
            let request = WatchedRequest::new().unwrap();
            if usize::from(request.state().slot) == slot {
                break request;
            }
        };
        late.failed();
        assert!(!again.state().has_failed() && !state.has_failed());
    }

    #[test]
    fn a_body_that_a_limit_cuts_off_stays_waited_for_and_one_that_is_let_go_does_not() {
        for (waits, cut, awaited) in [
            (true, true, true),
            (true, false, false),
            (false, true, false),
        ] {
            let request = WatchedRequest::new().unwrap();
            let mut report = BodyReport::of(&request);
            report.waits(waits);
            match cut {
                true => cut_off(Limiter::UNKNOWN, || drop(report)),
                false => drop(report),
            }
            assert_eq!(request.state().is_awaited(), awaited, "{waits} {cut}");
        }
    }

    #[test]
    fn a_generation_that_wraps_is_another_one_and_leaves_the_other_bits_alone() {
        // The word of a free slot whose generation is the last one.
        let last = !(TAKEN | WAITS | FAILED);
        let first = following(last);
        assert_eq!(first, TAKEN);
        assert_eq!(following(first & !TAKEN), GENERATION | TAKEN);
        // Whatever a body has noted in the slot, the next request begins without it.
        for noted in [0, WAITS, FAILED, WAITS | FAILED] {
            assert_eq!(following(last | noted), TAKEN);
        }
    }

    #[test]
    fn a_request_that_nobody_watches_has_gone_well() {
        assert!(!RequestState::UNWATCHED.has_failed());
        RequestState::UNWATCHED.set(FAILED | WAITS);
        assert!(!RequestState::UNWATCHED.is_awaited() && !RequestState::UNWATCHED.has_failed());
    }

    #[test]
    fn more_requests_than_places_are_not_watched() {
        let _places = lock(&PLACES);
        let requests: Vec<_> = (0..2 * SLOTS)
            .map_while(|_| WatchedRequest::new())
            .collect();
        assert!(requests.len() <= SLOTS);
        let slots: HashSet<_> = requests.iter().map(|one| one.state().slot).collect();
        assert_eq!(slots.len(), requests.len(), "each has a place of its own");
    }
}
