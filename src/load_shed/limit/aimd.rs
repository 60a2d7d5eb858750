use super::{Limit, NextWindow, SampleWindow};
use crate::{clock::Time, error::InvalidConfig};
use std::time::Duration;

/// A limit that grows by one while calls wait for a permit, and shrinks by a tenth when the service
/// refuses calls or loses them: additive increase, multiplicative decrease.
///
/// It suits services that say when they are full, as those behind a load shed do. It does not
/// notice a queue inside the service: in front of a service that answers everything late, it grows
/// until calls time out, which is too late if timeouts are far above the service's usual latency.
/// It is modelled on `AIMDLimit` in Netflix's concurrency-limits, but decides per window and not
/// per call: eight refusals in one round trip are one event and not eight.
#[doc(alias("AIMDLimit", "additive_increase"))]
#[derive(Clone, Debug)]
pub struct Aimd {
    limit: f64,
    max: f64,
    backoff: f64,
    timeout: Option<Duration>,
}

const KIND: &str = "AIMD limit";

impl Aimd {
    /// Creates a limit that starts at 20 and goes up to 1000.
    pub const fn new() -> Self {
        Self {
            limit: 20.0,
            max: 1000.0,
            backoff: 0.9,
            timeout: None,
        }
    }

    /// Sets the limit to start with, and the highest it may be. By default 20 and 1000.
    ///
    /// # Errors
    /// If the initial limit is 0 or above the maximum.
    pub fn up_to(self, initial: usize, max: usize) -> Result<Self, InvalidConfig> {
        InvalidConfig::check(initial > 0, KIND, "initial", initial, "at least 1")?;
        InvalidConfig::check(
            initial <= max,
            KIND,
            "max",
            max,
            "at least the initial limit",
        )?;
        let (limit, max) = (initial as f64, max as f64);
        Ok(Self { limit, max, ..self })
    }

    /// Sets what the limit is multiplied by when the service is overloaded. By default 0.9.
    ///
    /// # Errors
    /// If it is not from 0.1 to 0.99.
    #[doc(alias = "backoff_ratio")]
    pub fn backoff(self, backoff: f64) -> Result<Self, InvalidConfig> {
        let valid = (0.1..=0.99).contains(&backoff);
        InvalidConfig::check(valid, KIND, "backoff", backoff, "from 0.1 to 0.99")?;
        Ok(Self { backoff, ..self })
    }

    /// Sets a mean latency above which the service counts as overloaded, too. By default there is
    /// none.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit for Aimd {
    fn initial(&self) -> usize {
        self.limit as usize
    }

    fn close(&self) -> NextWindow {
        NextWindow::after(10)
    }

    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        let slow = (window.mean_latency().zip(self.timeout))
            .is_some_and(|(latency, timeout)| latency > timeout.as_secs_f64());
        if window.unanswered() > 0.0 || slow {
            self.limit = (self.limit * self.backoff).max(1.0);
        } else if window.used && window.completions > 0 {
            self.limit = (self.limit + 1.0).min(self.max);
        }
        self.limit as usize
    }
}
