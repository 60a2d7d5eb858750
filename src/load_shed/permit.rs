use super::{queue::Ticket, samples::ONE_IN};
use crate::clock::Time;

/// What an admitted call holds: its track in the upper 3 bits, and in the lower 61 when it began,
/// which is enough for 73 years.
///
/// One word on purpose: what is written in two and read in one piece waits until the writes are
/// through, which costs as much as taking a permit.
#[derive(Debug)]
pub struct Permit(u64);

const START: u64 = (1 << 61) - 1;

/// What is known of a running call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Track {
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
}

impl Permit {
    pub(super) const UNTIMED: Self = Self(0);
    pub(super) const HELD_BACK: Self = Self::new(Time(0), Track::HeldBack);

    #[inline]
    pub(super) const fn new(start: Time, track: Track) -> Self {
        Self(start.0 & START | (track as u64) << 61)
    }

    /// Only of a call that is not untimed.
    #[inline]
    pub(super) const fn start(&self) -> Time {
        Time(self.0 & START)
    }

    #[inline]
    pub(super) const fn track(&self) -> Track {
        match self.0 >> 61 {
            0 => Track::Untimed,
            1 => Track::Reserved,
            2 => Track::Timed,
            3 => Track::Sampled,
            4 => Track::InFlight,
            _ => Track::HeldBack,
        }
    }

    /// How many calls it stands for, if it ends at once.
    pub(super) const fn weight(&self) -> u32 {
        match self.track() {
            Track::Sampled => ONE_IN,
            _ => 1,
        }
    }
}

/// A place in the line of a [`LoadShed`](super::LoadShed).
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
        let tracks = [
            Track::Untimed,
            Track::Reserved,
            Track::Timed,
            Track::Sampled,
            Track::InFlight,
            Track::HeldBack,
        ];
        for track in tracks {
            for start in [Time(0), Time(1_234_567_890), Time(START)] {
                let permit = Permit::new(start, track);
                assert_eq!((permit.start(), permit.track()), (start, track));
            }
        }
        assert_eq!(Permit::UNTIMED.track(), Track::Untimed);
    }
}
