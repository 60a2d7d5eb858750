use super::{Limit, NextWindow, SampleWindow};
use crate::{clock::Time, error::InvalidConfig};

/// A limit that keeps a few calls waiting inside the service: more while its latency is close to
/// the least seen, fewer when it is well above.
///
/// It suits services whose calls all take about the same time. It takes the least mean latency of a
/// window for the latency without load. That is far too low where service times vary much, and
/// stale for a while where the service got slower for good. It is modelled on TCP Vegas (Brakmo and
/// Peterson, 1994) and on `VegasLimit` in Netflix's concurrency-limits, but uses the means of
/// windows: with the least latency of single calls, it would shed at half the load.
#[doc(alias = "VegasLimit")]
#[derive(Clone, Debug)]
pub struct Vegas {
    limit: f64,
    max: f64,
    /// In seconds; 0 while unknown.
    least: f64,
    /// Completions until the least is forgotten.
    remaining: u64,
}

/// The least is forgotten after this many calls for each that may be in flight.
const MEMORY: f64 = 30.0;

impl Vegas {
    /// Creates a limit that starts at 20 and goes up to 1000.
    pub const fn new() -> Self {
        Self {
            limit: 20.0,
            max: 1000.0,
            least: 0.0,
            remaining: 0,
        }
    }

    /// Sets the limit to start with, and the highest it may be. By default 20 and 1000.
    ///
    /// # Errors
    /// If the initial limit is 0 or above the maximum.
    pub fn up_to(self, initial: usize, max: usize) -> Result<Self, InvalidConfig> {
        let kind = "Vegas limit";
        InvalidConfig::check(initial > 0, kind, "initial", initial, "at least 1")?;
        InvalidConfig::check(
            initial <= max,
            kind,
            "max",
            max,
            "at least the initial limit",
        )?;
        let (limit, max) = (initial as f64, max as f64);
        Ok(Self { limit, max, ..self })
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit for Vegas {
    fn initial(&self) -> usize {
        self.limit as usize
    }

    fn close(&self) -> NextWindow {
        NextWindow::after(50)
    }

    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        let step = self.limit.log10().floor().max(1.0);
        if window.unanswered() > 0.1 {
            self.limit = (self.limit - step).max(1.0);
            return self.limit as usize;
        }
        let Some(latency) = window.mean_latency() else {
            return self.limit as usize;
        };
        self.remaining = self.remaining.saturating_sub(window.completions);
        if self.remaining == 0 || self.least == 0.0 || latency < self.least {
            if self.remaining == 0 {
                self.remaining = (MEMORY * self.limit) as u64;
            }
            self.least = latency;
        }
        if !window.used {
            return self.limit as usize;
        }
        let (alpha, beta) = (3.0 * step, 6.0 * step);
        let queue = (self.limit * (1.0 - self.least / latency)).ceil();
        self.limit += match queue {
            q if q <= step => beta,
            q if q < alpha => step,
            q if q > beta => -step,
            _ => 0.0,
        };
        self.limit = self.limit.clamp(1.0, self.max);
        self.limit as usize
    }
}
