//! Permits, striped over thread slots, and stolen half at a time.
//!
//! One counter for all threads costs 231 ns a call with two of them; a stripe per slot is as fast
//! with two as with one, and the limit stays exact: a permit is in one stripe, or in use.

use super::sync::{AtomicU64, LOOKS, Padded, Relaxed, SeqCst, pause};

/// How high a limit may be: what a stripe can hold, rounded down.
pub(super) const MAX_LIMIT: usize = 1_000_000;

/// A stripe's word: how often permits were taken from it in the upper 32 bits, how many threads
/// are moving permits to it in the next 10, the free permits in the lower 22.
const FREE: u64 = (1 << 22) - 1;
const MOVING: u64 = 1 << 22;
pub(super) const TAKEN: u64 = 1 << 32;
/// More than can have been taken.
const NEVER: u64 = u64::MAX;

/// The free permits of one limit.
///
/// # Invariants
/// 1. The number of stripes is a power of two, so that a thread finds its own with a mask.
/// 2. A permit is in one stripe, or with who took it. No stripe's count leaves its bits: there are
///    never more permits than `MAX_LIMIT`.
/// 3. Permits that a thief has taken out and not put down yet are announced in the thief's own
///    stripe before they are taken, so that nobody who sees nothing takes that for "none is free".
/// 4. Every taking is counted in the word that it takes from, in the same step.
#[derive(Debug)]
pub(super) struct Stripes {
    pub(super) words: Box<[Padded<AtomicU64>]>,
    /// Per slot, how many had been taken when all stripes were last found empty.
    emptied: Box<[Padded<AtomicU64>]>,
    /// What has run over from the upper 32 bits.
    carried: AtomicU64,
}

impl Stripes {
    /// Spreads so many permits over so many stripes, or as many more as make a power of two.
    pub(super) fn new(permits: usize, stripes: usize) -> Self {
        let stripes = stripes.next_power_of_two();
        debug_assert!(permits <= MAX_LIMIT, "{permits} permits");
        let share = |i| permits / stripes + usize::from(i < permits % stripes);
        let word = |i| Padded(AtomicU64::new(share(i) as u64));
        Self {
            words: (0..stripes).map(word).collect(),
            emptied: (0..stripes)
                .map(|_| Padded(AtomicU64::new(NEVER)))
                .collect(),
            carried: AtomicU64::new(0),
        }
    }

    /// Returns the stripe of this slot. Slots beyond the last begin again at the first.
    #[inline]
    fn of(&self, slot: usize) -> &AtomicU64 {
        &self.words[slot & (self.words.len() - 1)].0
    }

    /// Takes a permit from the slot's own stripe, and returns how many were taken there before.
    #[inline]
    pub(super) fn take_own(&self, slot: usize) -> Option<u32> {
        self.take_from(self.of(slot), |_| 1)
            .map(|(_, before)| before)
    }

    /// Returns whether all stripes are empty, and have been since this slot last found them so.
    /// True only if there was a moment at which no permit was free; false if it takes more than a
    /// glance.
    ///
    /// A permit that was free in between must have been taken since, and that is counted. (It takes
    /// 2^32 of them between two looks, to the last one, to hide that.)
    #[inline]
    pub(super) fn still_empty(&self, slot: usize) -> bool {
        // Read first: what is compared with must be older than what is seen.
        let known = self.emptied[slot & (self.emptied.len() - 1)].0.load(SeqCst);
        let mut taken = 0_u64;
        for word in &self.words {
            let seen = word.0.load(SeqCst);
            // Neither free permits nor threads that are moving some.
            if seen % TAKEN != 0 {
                return false;
            }
            taken = taken.wrapping_add(seen / TAKEN);
        }
        taken == known
    }

    /// Takes a permit from whichever stripe has one, and moves half of what is there to the slot's
    /// own. Fails only if there was a moment at which no permit was free.
    #[cold]
    pub(super) fn steal(&self, slot: usize) -> Option<u32> {
        let mut before = None;
        for _ in 0..LOOKS {
            let (mut taken, mut moving) = (0_u64, false);
            for i in 0..self.words.len() {
                let word = self.of(slot.wrapping_add(i));
                let seen = word.load(SeqCst);
                if seen & FREE > 0
                    && let Some(count) = self.steal_from(word, slot)
                {
                    return Some(count);
                }
                taken = taken.wrapping_add(seen / TAKEN);
                moving |= seen % TAKEN >= MOVING;
            }
            // Two looks at nothing with no permit taken between them: then all were empty at once.
            if !moving && before == Some(taken) {
                let emptied = &self.emptied[slot & (self.emptied.len() - 1)].0;
                emptied.store(taken, SeqCst);
                return None;
            }
            before = Some(taken);
            if moving {
                pause();
            }
        }
        None
    }

    fn steal_from(&self, victim: &AtomicU64, slot: usize) -> Option<u32> {
        let own = self.of(slot);
        // Permits on the move are in no stripe: whoever finds nothing sees this and looks again.
        let before = own.fetch_add(MOVING, SeqCst);
        debug_assert!(
            before % TAKEN < TAKEN - MOVING,
            "too many thieves for the word"
        );
        let stolen = self.take_from(victim, |free| free.div_ceil(2));
        let spare = stolen.map_or(0, |(n, _)| n - 1);
        own.fetch_add(spare.wrapping_sub(MOVING), SeqCst);
        stolen.map(|(_, before)| before)
    }

    #[inline]
    fn take_from(&self, word: &AtomicU64, some: impl Fn(u64) -> u64) -> Option<(u64, u32)> {
        let mut seen = word.load(Relaxed);
        while seen & FREE > 0 {
            let n = some(seen & FREE);
            debug_assert!(0 < n && n <= seen & FREE, "{n} of {}", seen & FREE);
            let next = (seen - n).wrapping_add(TAKEN);
            match word.compare_exchange_weak(seen, next, SeqCst, Relaxed) {
                Ok(_) => {
                    let before = (seen / TAKEN) as u32;
                    if before == u32::MAX {
                        self.carried.fetch_add(1 << 32, Relaxed);
                    }
                    return Some((n, before));
                }
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Gives permits to the slot's stripe.
    #[inline]
    pub(super) fn put(&self, slot: usize, permits: usize) {
        let before = self.of(slot).fetch_add(permits as u64, SeqCst);
        let free = (before & FREE) as usize + permits;
        debug_assert!(free <= MAX_LIMIT, "{free} permits in one stripe");
    }

    /// Spreads permits over all stripes.
    pub(super) fn spread(&self, permits: usize) {
        let stripes = self.words.len();
        for i in 0..stripes {
            let share = permits / stripes + usize::from(i < permits % stripes);
            if share > 0 {
                self.put(i, share);
            }
        }
    }

    /// Returns how many permits are free. A look, not a promise.
    pub(super) fn free(&self) -> usize {
        let free = |word: &Padded<AtomicU64>| (word.0.load(SeqCst) & FREE) as usize;
        self.words.iter().map(free).sum()
    }

    /// Returns how many times a permit was taken.
    pub(super) fn taken(&self) -> u64 {
        let taken = |word: &Padded<AtomicU64>| word.0.load(SeqCst) / TAKEN;
        let carried = self.carried.load(Relaxed);
        carried.wrapping_add(self.words.iter().map(taken).sum())
    }
}
