use super::{Adaptive, MOST_AT_FIRST};
use crate::{clock::Time, error::InvalidConfig};
use std::time::Duration;

const KIND: &str = "adaptive limit";

impl Adaptive {
    /// Creates a limit that starts at 20 and stays between 1 and 10,000.
    ///
    /// Nearly every service can bear 20 calls for the moment that the first search takes, and with
    /// this start, a service that is not overloaded sheds nothing from its first call on. In front
    /// of a single worker, the first calls of an overload were measured to take up to 0.4 s.
    pub const fn new() -> Self {
        Self {
            initial: MOST_AT_FIRST,
            min: 1,
            max: 10_000,
            n: MOST_AT_FIRST as f64,
            base: 0.0,
            cv2: 1.0,
            per_permit: 0.0,
            starting: true,
            bound: false,
            seen: 0.0,
            suspicions: 0,
            search: None,
            last_search: Time(0),
            last_took: Duration::ZERO,
        }
    }

    /// Sets the limit to start with. By default 20. More than 20 is taken for 20, because from 200
    /// in front of a single worker, the limit was measured to take up to 40 seconds to come down.
    ///
    /// A start at 1 is too high for no service. The limit then doubles while calls wait for a
    /// permit; a service that gets five calls at once sheds about a hundred until it is high
    /// enough.
    ///
    /// # Errors
    /// If it is 0.
    #[doc(alias = "initial_limit")]
    pub fn starting_at(self, initial: usize) -> Result<Self, InvalidConfig> {
        InvalidConfig::check(initial > 0, KIND, "initial", initial, "at least 1")?;
        let initial = initial.min(MOST_AT_FIRST);
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
