//! The phases of a circuit, and the word that says which one it is in.

use super::snapshot::{Mode, State};
use crate::clock::Time;

/// What a circuit does with calls.
///
/// ```text
///                  a rule says so
///    Closed ─────────────────────────▶ Open ◀──────────┐
///     ▲  ▲                            ▲  │             │
///     │  │ everybody                  │  │ open time   │
///     │  │ is let in   a rule says so │  │ is over     │
///     │  └──────────── Ramp ──────────┘  │             │
///     │                 ▲                ▼             │
///     │ without a ramp  │ with one    HalfOpen ────────┘
///     └─────────────────┴────────────────┘  too many probes failed
///                 enough probes succeeded
///
///    any of them ───▶ ForcedOpen, ForcedClosed ───▶ Closed, once it is reset
/// ```
///
/// Users see three of them, as [`State`]: a ramp is closed, and so is what was forced to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Calls pass.
    Closed,
    /// Calls are refused until a deadline.
    Open,
    /// A few calls pass, and decide.
    HalfOpen,
    /// Calls are refused until somebody says otherwise.
    ForcedOpen,
    /// Calls pass until somebody says otherwise.
    ForcedClosed,
    /// Closed, with a share of the calls let in that grows until a deadline.
    Ramp,
}

/// All that most calls read of a circuit: `epoch:60 | observing:1 | phase:3`.
///
/// # Invariants
/// 1. Whatever enters a phase begins an epoch, one more than the last. The end of a ramp, which
///    changes nothing for those that were let in, is the only change of phase within an epoch.
/// 2. No circuit is ever in [`IGNORED_EPOCH`].
/// 3. The phase is one of the six.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CircuitWord(u64);

const PHASE: u64 = 0b111;
const OBSERVING: u64 = 0b1000;
const EPOCH_SHIFT: u32 = 4;

/// The epoch of calls that teach nothing, because no circuit is in it.
pub(super) const IGNORED_EPOCH: u64 = u64::MAX >> EPOCH_SHIFT;

impl CircuitWord {
    /// Of a call that an observing breaker would have refused.
    pub(super) const IGNORED: Self = Self::new(IGNORED_EPOCH, false, Phase::Open);

    pub(super) const fn new(epoch: u64, observing: bool, phase: Phase) -> Self {
        let observing = if observing { OBSERVING } else { 0 };
        Self(epoch << EPOCH_SHIFT | observing | phase as u64)
    }

    /// Takes a word out of an atomic one.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// Returns whether this is the phase, without taking it apart.
    #[inline]
    pub(super) fn is(self, phase: Phase) -> bool {
        self.0 & PHASE == phase as u64
    }

    pub(super) fn phase(self) -> Phase {
        match self.0 & PHASE {
            0 => Phase::Closed,
            1 => Phase::Open,
            2 => Phase::HalfOpen,
            3 => Phase::ForcedOpen,
            4 => Phase::ForcedClosed,
            5 => Phase::Ramp,
            other => {
                debug_assert!(false, "phase {other}");
                Phase::Closed
            }
        }
    }

    #[inline]
    pub(super) fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    /// Returns whether nothing is refused, and everything else goes on as ever.
    #[inline]
    pub(super) fn is_observing(self) -> bool {
        self.0 & OBSERVING != 0
    }

    /// Returns whether the rules decide about this phase, by how calls end.
    #[inline]
    pub(super) fn can_trip(self) -> bool {
        self.is(Phase::Closed) || self.is(Phase::Ramp)
    }

    /// Returns the state that was told of last: open until somebody comes and finds it half-open.
    pub(super) fn told_state(self) -> State {
        match self.phase() {
            Phase::Open | Phase::ForcedOpen => State::Open,
            Phase::HalfOpen => State::HalfOpen,
            Phase::Closed | Phase::ForcedClosed | Phase::Ramp => State::Closed,
        }
    }

    /// Returns what the next call would find.
    pub(super) fn state(self, until: Time, now: Time) -> State {
        match self.is(Phase::Open) && now >= until {
            true => State::HalfOpen,
            false => self.told_state(),
        }
    }

    pub(super) fn mode(self) -> Mode {
        match self.phase() {
            Phase::ForcedOpen => Mode::ForcedOpen,
            Phase::ForcedClosed => Mode::ForcedClosed,
            _ if self.is_observing() => Mode::ObserveOnly,
            _ => Mode::Automatic,
        }
    }
}
