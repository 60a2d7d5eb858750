use super::queue::Ticket;
use crate::clock::Time;

/// What an admitted call holds.
#[derive(Debug)]
pub struct Permit {
    /// Only of a call that is not untimed.
    pub(super) start: Time,
    pub(super) track: Track,
}

/// What is known of a running call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Track {
    /// Nothing.
    Untimed,
    /// Nothing, as it was reserved; but if it ends at once it stands for others that did.
    Reserved,
    /// When it began. If it ends at once it stands for so many that did.
    Timed(u32),
    /// When it began; and it is counted among those in flight.
    InFlight,
}

impl Permit {
    pub(super) const UNTIMED: Self = Self {
        start: Time(0),
        track: Track::Untimed,
    };

    pub(super) const fn timed(start: Time, weight: u32) -> Self {
        Self {
            start,
            track: Track::Timed(weight),
        }
    }
}

/// A place in the line of a [`LoadShed`](super::LoadShed).
#[derive(Debug)]
pub struct Place {
    pub(super) ticket: Ticket,
    /// When the caller stops waiting.
    pub(super) deadline: Option<Time>,
}
