//! The only file that draws random numbers.
//!
//! Cores take the numbers they need as arguments; what draws them is a [`Dice`], which is random
//! by default and exactly repeatable when seeded.
#![allow(clippy::disallowed_methods)]

use crate::shared::lock;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::Mutex;

/// Where a policy's random numbers come from.
#[derive(Debug, Default)]
pub(crate) struct Dice(Option<Mutex<StdRng>>);

impl Dice {
    /// The thread's generator, or one of its own with this seed.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(seed.map(|seed| Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&self) -> f64 {
        match &self.0 {
            None => rand::rng().random(),
            Some(rng) => lock(rng).random(),
        }
    }

    /// A number that nobody else draws: 128 bits.
    #[cfg(feature = "redis")]
    pub(crate) fn token(&self) -> u128 {
        match &self.0 {
            None => rand::rng().random(),
            Some(rng) => lock(rng).random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_every_number_is_in_range() {
        let draw = |seed| {
            let dice = Dice::new(seed);
            (0..100).map(|_| dice.unit()).collect::<Vec<_>>()
        };
        assert_eq!(draw(Some(7)), draw(Some(7)));
        assert_ne!(draw(Some(7)), draw(Some(8)));
        assert_ne!(draw(None), draw(None));
        assert!(draw(None).iter().all(|u| (0.0..1.0).contains(u)));
    }
}
