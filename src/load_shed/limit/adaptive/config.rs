use super::{Adaptive, LEAST_PATIENCE, LITTLE_TRUST, Phase, Tries};
use crate::{clock::Time, error::InvalidConfig};
use std::time::Duration;

const KIND: &str = "adaptive limit";

/// Nearly every service can bear so many calls for a moment.
const INITIAL: usize = 20;

impl Adaptive {
    /// Creates a limit that starts at 20 and stays between 1 and 10,000.
    ///
    /// Nearly every service can bear 20 calls for the moment that the first try takes, and hardly
    /// any that is not overloaded needs more from its first call on.
    pub const fn new() -> Self {
        Self {
            initial: INITIAL,
            min: 1,
            max: 10_000,
            n: INITIAL as f64,
            parallelism: 0.0,
            unqueued: 0.0,
            phase: Phase::Watching,
            starting: true,
            too_low: true,
            variation: 1.0,
            saturated: 0.5,
            tries: Tries {
                began: Time(0),
                ended: Time(0),
                pause: Duration::ZERO,
                trust: LITTLE_TRUST,
                since_below: 0,
                patience: LEAST_PATIENCE,
                found: 0.0,
            },
            little: 0.0,
            usual: 0.0,
            least: f64::INFINITY,
            slow: 0,
        }
    }

    /// Sets the limit to start with. By default 20.
    ///
    /// A start at 1 is too high for no service; the limit then doubles while calls find no permit.
    /// A start far above what the service can do fills its queue before anything is known, and it
    /// takes as long to come down as that takes to be worked off. Best is the limit that the last
    /// run had ended with: [`Snapshot::limit`](crate::load_shed::Snapshot::limit).
    ///
    /// # Errors
    /// If it is 0.
    #[doc(alias = "initial_limit")]
    pub fn starting_at(self, initial: usize) -> Result<Self, InvalidConfig> {
        InvalidConfig::check(initial > 0, KIND, "initial", initial, "at least 1")?;
        Ok(Self { initial, ..self }.clamped())
    }

    /// Sets the bounds of the limit. By default 1 and 10,000.
    ///
    /// A minimum above 1 allows that many calls in flight even in front of a service that hangs.
    ///
    /// # Errors
    /// If the minimum is 0 or above the maximum.
    #[doc(alias("min_limit", "max_limit"))]
    pub fn within(self, min: usize, max: usize) -> Result<Self, InvalidConfig> {
        InvalidConfig::check(min > 0, KIND, "min", min, "at least 1")?;
        InvalidConfig::check(min <= max, KIND, "max", max, "at least the minimum")?;
        Ok(Self { min, max, ..self }.clamped())
    }

    fn clamped(mut self) -> Self {
        self.initial = self.initial.clamp(self.min, self.max);
        self.n = self.initial as f64;
        self
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::new()
    }
}
