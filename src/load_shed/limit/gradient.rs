use super::{Limit, NextWindow, SampleWindow};
use crate::{clock::Time, error::InvalidConfig};

/// A limit that compares the latency of the last second with its long average.
///
/// It is for those who come from Netflix's concurrency-limits: its rule and its numbers are those
/// of `Gradient2Limit`. It moves slowly, by one permit in some seconds while the limit is small, so
/// give it a fitting [initial limit](Self::within). It does not notice a latency that is steadily
/// bad: over ten minutes of overload, its limit and the latency were measured to grow by half and
/// more.
#[doc(alias = "Gradient2Limit")]
#[derive(Clone, Debug)]
pub struct Gradient2 {
    limit: f64,
    min: f64,
    max: f64,
    /// In seconds.
    long: f64,
    windows: u32,
}

/// Windows behind the long average, and those it starts with the plain mean of.
const LONG: f64 = 600.0;
const WARM_UP: u32 = 10;
const TOLERANCE: f64 = 1.5;
const QUEUE: f64 = 4.0;
const SMOOTHING: f64 = 0.2;

impl Gradient2 {
    /// Creates a limit that starts at 20 and stays between 20 and 200.
    pub const fn new() -> Self {
        Self {
            limit: 20.0,
            min: 20.0,
            max: 200.0,
            long: 0.0,
            windows: 0,
        }
    }

    /// Sets the limit to start with, and its bounds. By default it starts at 20, and stays between
    /// 20 and 200.
    ///
    /// # Errors
    /// If not `1 <= min <= initial <= max`.
    pub fn within(self, min: usize, initial: usize, max: usize) -> Result<Self, InvalidConfig> {
        let kind = "gradient limit";
        InvalidConfig::check(min > 0, kind, "min", min, "at least 1")?;
        InvalidConfig::check(
            min <= initial,
            kind,
            "initial",
            initial,
            "at least the minimum",
        )?;
        InvalidConfig::check(
            initial <= max,
            kind,
            "max",
            max,
            "at least the initial limit",
        )?;
        let (limit, min, max) = (initial as f64, min as f64, max as f64);
        Ok(Self {
            limit,
            min,
            max,
            ..self
        })
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit for Gradient2 {
    fn initial(&self) -> usize {
        self.limit as usize
    }

    fn close(&self) -> NextWindow {
        let mut close = NextWindow::after(10);
        close.min = close.max;
        close
    }

    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        let Some(short) = window.mean_latency() else {
            return self.limit as usize;
        };
        self.windows = self.windows.saturating_add(1);
        let weight = match self.windows {
            n if n <= WARM_UP => 1.0 / f64::from(n),
            _ => 2.0 / (LONG + 1.0),
        };
        self.long += weight * (short - self.long);
        if self.long / short > 2.0 {
            // The service got much faster: a long average would take minutes to notice.
            self.long *= 0.95;
        }
        // A limit that is not used says nothing about a higher one.
        if (window.peak_in_flight as f64) < self.limit / 2.0 {
            return self.limit as usize;
        }
        let gradient = (TOLERANCE * self.long / short).clamp(0.5, 1.0);
        let target = self.limit * gradient + QUEUE;
        self.limit += SMOOTHING * (target - self.limit);
        self.limit = self.limit.clamp(self.min, self.max);
        self.limit as usize
    }
}
