//! Chance, by seed.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::cell::RefCell;

thread_local!(static DICE: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0)));

pub(crate) fn seed(seed: u64) {
    DICE.set(StdRng::seed_from_u64(seed));
}

/// A number in `[0, 1)`.
pub(crate) fn unit() -> f64 {
    DICE.with_borrow_mut(|dice| dice.random())
}

/// One of so many.
pub(crate) fn below(n: usize) -> usize {
    DICE.with_borrow_mut(|dice| dice.random_range(0..n))
}

/// A length of time, exponentially distributed with this mean.
pub(crate) fn exponential(mean: f64) -> f64 {
    -mean * (1.0 - unit()).ln()
}
