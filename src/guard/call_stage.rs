//! How far a call has come that a guard has admitted.

use crate::clock::Time;

/// How far a call has come. One word: a [stage](Self::ADMITTED), or the time since which it is in a
/// wait of another policy; and whether it was pending before, in the highest bit, which no time
/// reaches.
// In two halves, so that it is not written where a refusal has a word of its own: the compiler
// would write both in one place of the code, and the whole future into memory for that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CallStage {
    high: u32,
    low: u32,
}

const PENDING: u64 = 1 << 63;

impl CallStage {
    /// The service has not been called yet.
    pub(super) const ADMITTED: Self = Self::new(0);
    /// Nor has it yet, and is waited for: it is not ready.
    pub(super) const READYING: Self = Self::new(PENDING);
    /// It has been called.
    pub(super) const CALLED: Self = Self::new(1);
    /// The guard has been told that the call does not end at once.
    pub(super) const PENDING: Self = Self::new(PENDING | 1);

    #[inline]
    const fn new(word: u64) -> Self {
        Self {
            high: (word >> 32) as u32,
            low: word as u32,
        }
    }

    #[inline]
    const fn word(self) -> u64 {
        (self.high as u64) << 32 | self.low as u64
    }

    /// In a wait since then. (The clock's first nanoseconds are a day before the process began.)
    pub(super) fn waits(self, since: Time) -> Self {
        Self::new((since.as_nanos() & !PENDING).max(2) | self.word() & PENDING)
    }

    #[inline]
    pub(super) const fn is_waiting(self) -> bool {
        self.word() & !PENDING > 1
    }

    pub(super) fn waits_since(self) -> Option<Time> {
        self.is_waiting()
            .then(|| Time::from_nanos(self.word() & !PENDING))
    }

    /// Returns the stage that was left for the wait.
    pub(super) fn before_wait(self) -> Self {
        Self::new(Self::CALLED.word() | self.word() & PENDING)
    }
}
