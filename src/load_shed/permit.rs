use super::{queue::Ticket, samples::ONE_IN};
use crate::clock::Time;

/// What a call that a [`LoadShed`](super::LoadShed) has let in holds until it ends.
// Its timing in the upper 3 bits, then whether it was seen to take the last permit, and in the
// lower 60 when it began, which is enough for 36 years. One word: see `shared.rs` about values on
// the hot path.
#[doc(alias("semaphore", "SemaphorePermit"))]
#[derive(Debug)]
pub struct Permit(u64);

const START: u64 = (1 << 60) - 1;
const AT_LIMIT: u64 = 1 << 60;

/// What is known of when a running call began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Timing {
    /// Nothing.
    Untimed = 0,
    /// Nothing, as it was reserved; but if it ends at once it stands for others that did.
    Reserved = 1,
    /// When it began.
    Timed = 2,
    /// When it began. If it ends at once it stands for [`ONE_IN`] that did.
    Sampled = 3,
    /// When it began; and it is counted among those in flight.
    InFlight = 4,
    /// Nothing, as it was reserved; if it ends at once it stands for itself.
    HeldBack = 5,
    /// When it began; and it is in a wait of another policy, and not in flight until that is over.
    Waiting = 6,
}

impl Permit {
    pub(super) const UNTIMED: Self = Self(0);
    pub(super) const HELD_BACK: Self = Self::new(Time(0), Timing::HeldBack);

    #[inline]
    /// Makes a permit of these parts.
    pub(super) const fn new(start: Time, timing: Timing) -> Self {
        debug_assert!(start.0 <= START, "a start that does not fit");
        Self(start.0 & START | (timing as u64) << 61)
    }

    /// Returns when the call began: only of one of which that is known.
    #[inline]
    pub(super) const fn start(&self) -> Time {
        Time(self.0 & START)
    }

    /// Notes that the call took the last permit.
    pub(super) const fn at_limit(self) -> Self {
        Self(self.0 | AT_LIMIT)
    }

    /// Returns whether it did.
    pub(super) const fn was_at_limit(&self) -> bool {
        self.0 & AT_LIMIT != 0
    }

    /// Returns the permit of the same call, of which this is known now.
    pub(super) const fn with(&self, start: Time, timing: Timing) -> Self {
        Self(Self::new(start, timing).0 | self.0 & AT_LIMIT)
    }

    /// Returns what is known of when the call began.
    #[inline]
    pub(super) const fn timing(&self) -> Timing {
        match self.0 >> 61 {
            0 => Timing::Untimed,
            1 => Timing::Reserved,
            2 => Timing::Timed,
            3 => Timing::Sampled,
            4 => Timing::InFlight,
            5 => Timing::HeldBack,
            _ => Timing::Waiting,
        }
    }

    /// Returns how many calls this one stands for, if it ends at once.
    pub(super) const fn weight(&self) -> u32 {
        match self.timing() {
            Timing::Sampled => ONE_IN,
            _ => 1,
        }
    }
}

/// What a call that waits for a permit of a [`LoadShed`](super::LoadShed) holds: its place in the
/// queue.
#[derive(Debug)]
pub struct QueueWait {
    pub(super) ticket: Ticket,
    /// When the caller stops waiting.
    pub(super) deadline: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_says_what_was_put_in() {
        let timings = [
            Timing::Untimed,
            Timing::Reserved,
            Timing::Timed,
            Timing::Sampled,
            Timing::InFlight,
            Timing::HeldBack,
            Timing::Waiting,
        ];
        for timing in timings {
            for start in [Time(0), Time(1_234_567_890), Time(START)] {
                let permit = Permit::new(start, timing);
                assert_eq!((permit.start(), permit.timing()), (start, timing));
                assert!(!permit.was_at_limit());
                let permit = permit.at_limit().with(Time(7), timing);
                assert_eq!((permit.start(), permit.timing()), (Time(7), timing));
                assert!(permit.was_at_limit());
            }
        }
        assert_eq!(Permit::UNTIMED.timing(), Timing::Untimed);
    }
}
