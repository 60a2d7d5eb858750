//! Chance, by seed: the same on every machine. SplitMix64 (Steele, Lea and Flood, 2014).

use super::cell::Times;

#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0123_4567);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number between 0 and 1, and neither of them.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Returns how long a call takes, of which the mean is this.
    pub(crate) fn time(&mut self, times: Times, mean: f64) -> f64 {
        match times {
            Times::Constant => mean,
            Times::Even => mean * (0.8 + 0.4 * self.unit()),
            Times::Exponential => self.exponential(mean),
            Times::Lognormal => mean * (2.0 * self.normal() - 2.0).exp(),
            Times::Bimodal => {
                let quick = mean / (0.95 + 0.05 * 100.0);
                quick * if self.unit() < 0.95 { 1.0 } else { 100.0 }
            }
        }
    }
}
