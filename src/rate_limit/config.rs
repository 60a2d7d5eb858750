//! How a limiter is configured, and what it accepts.

use super::{
    RateLimiter, UnitCost,
    gcra::Gcra,
    global, keyed,
    state::{Inner, State},
    wait_queue::WaitQueues,
};
use crate::{Global, InvalidConfig, Name, clock::nanos, striped::StripedCounter};
use std::time::Duration;

/// The algorithm that counts admissions: a sliding window, or the generic cell rate algorithm.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// A sliding window: no window, wherever it starts, admits more than the quota.
    ///
    /// This is the default, because it is what a quota is usually taken to mean.
    #[default]
    SlidingWindow,
    /// The generic cell rate algorithm (GCRA): a steady rate of `quota / window`, evenly spaced,
    /// and up to `burst` at once after a pause. A token bucket of `burst` tokens decides in the
    /// same way.
    ///
    /// It is smoother than a sliding window, and takes less memory per key (22 bytes instead of
    /// 110). But one window may admit up to `burst + quota`: a full burst, and what falls due while
    /// the window lasts.
    #[doc(alias = "leaky_bucket")]
    #[doc(alias = "token_bucket")]
    Gcra {
        /// How much may come at once, at least 1. With 1 no two calls are closer than
        /// `window / quota`.
        burst: u32,
    },
}

/// The settings of a [`RateLimiter`], begun by [`RateLimiter::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimiterBuilder<K = Global, C = UnitCost> {
    name: Name,
    quota: u32,
    window: Duration,
    algorithm: Algorithm,
    max_keys: usize,
    keyed: bool,
    // Not `key`: who calls `.key(..)` is to be told of `keyed`, and not of a private field.
    keyed_by: K,
    cost: C,
}

pub(super) const POLICY: &str = "rate limiter";
/// At 110 bytes a key 110 MB, if an attacker brings a million keys: bounded, and far above the
/// number of clients that most services see in a window.
const MAX_KEYS: usize = 1_000_000;
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const MOST_KEYS: u64 = 4_000_000_000;
const SHORTEST: Duration = Duration::from_millis(1);

impl RateLimiterBuilder {
    pub(super) fn new(name: Name, quota: u32, window: Duration) -> Self {
        Self {
            name,
            quota,
            window,
            algorithm: Algorithm::default(),
            max_keys: MAX_KEYS,
            keyed: false,
            keyed_by: Global,
            cost: UnitCost,
        }
    }
}

impl<K, C> RateLimiterBuilder<K, C> {
    /// Gives each key a quota of its own, where by default all requests share one quota.
    ///
    /// The key is a closure that returns anything hashable, or one of the ready-made keys of the
    /// `http` feature; see [`Key`].
    ///
    /// [`Key`]: crate::Key
    #[doc(alias = "key")]
    #[doc(alias = "key_extractor")]
    #[doc(alias = "key_by")]
    pub fn keyed<K2>(self, key: K2) -> RateLimiterBuilder<K2, C> {
        RateLimiterBuilder {
            name: self.name,
            quota: self.quota,
            window: self.window,
            algorithm: self.algorithm,
            max_keys: self.max_keys,
            keyed: true,
            keyed_by: key,
            cost: self.cost,
        }
    }

    /// Sets how much of the quota a request takes, by a closure `|req: &Req| -> u32` or another
    /// [`Cost`](super::Cost). By default every request costs 1.
    #[doc(alias = "check_n")]
    #[doc(alias = "weight")]
    pub fn cost<C2>(self, cost: C2) -> RateLimiterBuilder<K, C2> {
        RateLimiterBuilder {
            name: self.name,
            quota: self.quota,
            window: self.window,
            algorithm: self.algorithm,
            max_keys: self.max_keys,
            keyed: self.keyed,
            keyed_by: self.keyed_by,
            cost,
        }
    }

    /// Sets how admissions are counted. By default [`Algorithm::SlidingWindow`].
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets how many keys are kept at most. From 1 to 4,000,000,000. By default 1,000,000, which
    /// take about 110 MB.
    ///
    /// A key that has been admitted within the last window is never evicted. If no other key is
    /// there to be evicted, further keys share a quota (one per shard of the table). So a flood of
    /// new keys can neither grow the memory nor reset anybody's count. Without
    /// [`keyed`](Self::keyed), this setting has no effect.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }
}

impl<K, C> RateLimiterBuilder<K, C> {
    /// Builds the limiter.
    ///
    /// # Errors
    /// If the quota, the burst or `max_keys` is 0, the window is not between 1 ms and 366 days, or
    /// the burst lasts for longer than 100 years.
    pub fn build(self) -> Result<RateLimiter<K, C>, InvalidConfig> {
        let checked = self.check();
        checked.map_err(|invalid| invalid.named(self.name))?;
        let (quota, window, max_keys) = (self.quota, nanos(self.window), self.max_keys);
        let (state, queues) = match (self.keyed, self.algorithm) {
            (true, algorithm) => {
                let state = keyed::State::new(algorithm, quota, window, max_keys);
                (State::Keyed(state), WaitQueues::new(16))
            }
            (false, Algorithm::SlidingWindow) => {
                let state = global::State::sliding(quota, window);
                (State::Global(state), WaitQueues::new(1))
            }
            (false, Algorithm::Gcra { burst }) => {
                let state = global::State::gcra(quota, window, burst);
                (State::Global(state), WaitQueues::new(1))
            }
        };
        Ok(RateLimiter::of(Inner {
            name: self.name,
            window: self.window,
            key: self.keyed_by,
            cost: self.cost,
            state,
            queues,
            rejected_total: StripedCounter::default(),
        }))
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let (quota, window) = (self.quota, nanos(self.window));
        check_quota(quota)?;
        let accepts = "between 1 ms and 366 days";
        let valid = (SHORTEST..=LONGEST).contains(&self.window);
        InvalidConfig::check(valid, POLICY, "window", self.window, accepts)?;
        if let Algorithm::Gcra { burst } = self.algorithm {
            let valid = burst > 0 && burst_ends(quota, window, burst);
            let accepts = "at least 1, and burst * window / quota at most 100 years";
            InvalidConfig::check(valid, POLICY, "burst", burst, accepts)?;
        }
        let max_keys = self.max_keys;
        let accepts = "between 1 and 4,000,000,000";
        let valid = (1..=MOST_KEYS).contains(&(max_keys as u64));
        InvalidConfig::check(valid, POLICY, "max_keys", max_keys, accepts)
    }
}

/// Returns whether a burst is made up for within 100 years.
fn burst_ends(quota: u32, window: u64, burst: u32) -> bool {
    let longest = LONGEST.saturating_mul(100);
    let gcra = Gcra::new(quota, window, burst);
    u64::from(burst) <= nanos(longest) / gcra.interval.max(1)
}

/// Rejects another quota under which a burst that there is would last for too long.
pub(super) fn check_burst(quota: u32, window: u64, burst: u32) -> Result<(), InvalidConfig> {
    let accepts = "so high that burst * window / quota is at most 100 years";
    let valid = burst_ends(quota, window, burst);
    InvalidConfig::check(valid, POLICY, "quota", quota, accepts)
}

/// Rejects a quota that admits nothing.
pub(super) fn check_quota(quota: u32) -> Result<(), InvalidConfig> {
    InvalidConfig::check(quota > 0, POLICY, "quota", quota, "at least 1")
}
