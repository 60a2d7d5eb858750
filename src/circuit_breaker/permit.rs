//! What an admitted call holds.

use super::phase::CircuitWord;
use crate::clock::Time;

/// What a call that a breaker has admitted holds until it ends.
#[derive(Debug)]
pub struct Permit {
    pub(super) word: CircuitWord,
    /// When the call began; 0 if nobody has asked yet.
    pub(super) began: u64,
    /// `answered:1 | waited for:1 | in a wait:1 | place:61`. The place is a probe's lease; with
    /// which thread's index a running call was counted, and 1; else 0.
    place: u64,
}

const ANSWERED: u64 = 1 << 63;
const WAITED_FOR: u64 = 1 << 62;
const IN_WAIT: u64 = 1 << 61;
const PLACE: u64 = IN_WAIT - 1;

impl Permit {
    #[inline]
    pub(super) fn new(word: CircuitWord, began: Option<Time>) -> Self {
        let began = began.map_or(0, |time| time.0.max(1));
        Self {
            word,
            began,
            place: 0,
        }
    }

    /// Makes the permit of a probe with this lease.
    pub(super) fn probe(word: CircuitWord, lease: u64, now: Time) -> Self {
        let mut permit = Self::new(word, Some(now));
        permit.set_place(lease);
        permit
    }

    /// Returns the permit as another value, for the fast path, which need not put its own where a
    /// call can write to it.
    #[inline]
    pub(super) fn moved(self) -> Self {
        let Self { word, began, place } = self;
        Self { word, began, place }
    }

    /// Returns how many nanoseconds it has been in the service; zero if nobody has asked yet.
    #[inline]
    pub(super) fn took(&self, now: Time) -> u64 {
        match self.began {
            0 => 0,
            began => now.0.saturating_sub(began),
        }
    }

    #[inline]
    pub(super) fn place(&self) -> u64 {
        self.place & PLACE
    }

    #[inline]
    pub(super) fn set_place(&mut self, place: u64) {
        debug_assert!(place <= PLACE, "place {place}");
        self.place = self.place & !PLACE | place;
    }

    /// Returns with which thread's index the call was counted as running, if it was.
    #[inline]
    pub(super) fn counted_by(&self) -> Option<usize> {
        self.place().checked_sub(1).map(|index| index as usize)
    }

    /// Returns whether the call is not counted as running, and may be.
    #[inline]
    pub(super) fn may_enter(&self) -> bool {
        self.place & (PLACE | IN_WAIT) == 0
    }

    /// Notes that the call is not counted as running while it is in a wait of another policy, and
    /// will be after it.
    pub(super) fn begin_wait(&mut self) {
        self.set_place(0);
        self.place |= IN_WAIT;
    }

    /// Returns whether the call has to be counted as running again, now that the wait is over.
    pub(super) fn end_wait(&mut self) -> bool {
        let was_counted = self.place & IN_WAIT != 0;
        self.place &= !IN_WAIT;
        was_counted
    }

    /// Returns whether the call did not end at its first poll in the service.
    #[inline]
    pub(super) fn was_waited_for(&self) -> bool {
        self.place & WAITED_FOR != 0
    }

    #[inline]
    pub(super) fn set_waited_for(&mut self) {
        self.place |= WAITED_FOR;
    }

    /// Returns whether the head of the answer has been there already, and only its body was
    /// missing.
    #[inline]
    pub(super) fn is_answered(&self) -> bool {
        self.place & ANSWERED != 0
    }

    #[inline]
    pub(super) fn set_answered(&mut self) {
        self.place |= ANSWERED;
    }
}
