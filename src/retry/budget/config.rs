//! The settings of a budget.

use super::{Budget, FreeRate, State, TOKEN};
use crate::error::InvalidConfig;
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64},
};

/// The settings of a [`Budget`], begun by [`Budget::builder`].
///
/// The [module](crate::retry#defaults) has a table of the defaults.
#[derive(Clone, Debug)]
pub struct BudgetBuilder {
    pub(super) ratio: f64,
    pub(super) cap: u32,
    pub(super) free_per_second: f64,
    pub(super) free_cap: u32,
    pub(super) stop_after: u32,
    pub(super) unlimited: bool,
}

impl Default for BudgetBuilder {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            cap: 10,
            free_per_second: 1.0,
            free_cap: 3,
            stop_after: 2,
            unlimited: false,
        }
    }
}

impl BudgetBuilder {
    /// Sets how many retries each successful attempt pays for. From 0 to 1000. By default 0.1, so
    /// that earned retries add no more than a tenth to the load of a service that works, and run
    /// out when more than one attempt in eleven fails. The [free](Self::free_per_second) ones come
    /// on top, which is little where there are many calls.
    #[doc(alias = "percent_can_retry")]
    #[must_use]
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Sets how many earned retries can be saved up at most. A budget starts full. By default 10,
    /// enough when a connection breaks with some calls on it.
    #[doc(alias = "max_tokens")]
    #[must_use]
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Sets how many retries a second are free, for when nothing earned is left. From 0, which
    /// means none, to 1000. By default 1: if one of two instances is dead, a caller with one call a
    /// second needs a retry a second. With 0.2 it loses 37 % of its calls; with 2, a hundred
    /// clients of a service at twice its capacity send it 15 % more calls instead of 10 %.
    #[doc(alias("min_retries_per_sec", "min_per_sec"))]
    #[must_use]
    pub fn free_per_second(self, free_per_second: f64) -> Self {
        Self {
            free_per_second,
            ..self
        }
    }

    /// Sets how many free retries can be saved up at most. A budget starts full. By default 3:
    /// enough for two stale connections in a row, and one. With 0, there are none.
    #[must_use]
    pub fn free_cap(self, free_cap: u32) -> Self {
        Self { free_cap, ..self }
    }

    /// Sets after how many lost calls in a row nothing is paid for, until an attempt succeeds. At
    /// least 1; with `u32::MAX`, the budget never stops for this.
    ///
    /// By default 2. Where half of the attempts fail at random, stopping after 1 loses 20 % of the
    /// calls instead of 13.5 %; after 3 it is 12.7 %, but a fleet of rare callers takes half as
    /// long again to recover from an outage, or twice as long.
    #[must_use]
    pub fn stop_after(self, lost_calls: u32) -> Self {
        Self {
            stop_after: lost_calls,
            ..self
        }
    }

    /// Builds the budget, which starts full.
    ///
    /// # Errors
    /// If the ratio or the number of free retries a second is not a number from 0 to 1000, or if
    /// the budget is to stop after no lost call at all.
    pub fn build(self) -> Result<Budget, InvalidConfig> {
        const POLICY: &str = "retry budget";
        for (field, given) in [
            ("ratio", self.ratio),
            ("free_per_second", self.free_per_second),
        ] {
            let valid = (0.0..=1000.0).contains(&given);
            InvalidConfig::check(valid, POLICY, field, given, "from 0 to 1000")?;
        }
        let stops = self.stop_after > 0;
        InvalidConfig::check(stops, POLICY, "stop_after", self.stop_after, "at least 1")?;
        Ok(self.make())
    }

    /// Builds the budget of valid settings, such as the defaults are.
    pub(super) fn make(self) -> Budget {
        let cap = u64::from(self.cap) * TOKEN;
        let free = match self.free_per_second > 0.0 {
            // Floats saturate when they become integers: a rate of next to nothing is none.
            true => FreeRate::new((1e9 / self.free_per_second).round() as u64, self.free_cap),
            false => FreeRate::new(u64::MAX, 0),
        };
        Budget(Arc::new(State {
            // Rounded, not cut off: 0.6 as a float is a little less than that.
            deposit_per_success: (self.ratio * TOKEN as f64).round() as u64,
            cap,
            free,
            stop_after: self.stop_after,
            unlimited: self.unlimited,
            balance: AtomicU64::new(cap),
            free_since: AtomicU64::new(0),
            lost: AtomicU32::new(0),
        }))
    }
}
