//! Decisions that a seed repeats.

use std::time::Duration;

pub(crate) struct Dice(u64);

impl Dice {
    /// For one of those who decide.
    pub(crate) fn new(seed: u64, who: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ who.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(1000 * most + 1))
    }

    /// Mostly none, sometimes some, seldom a long one.
    pub(crate) fn delay(&mut self) -> Duration {
        match self.below(50) {
            0 => self.up_to_ms(400),
            1..=12 => self.up_to_ms(20),
            _ => Duration::ZERO,
        }
    }
}
