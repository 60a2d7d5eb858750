//! How a limiter is configured, and what it accepts.

use super::{
    FixedQuota, RateLimiter, UnitCost,
    gcra::Gcra,
    global, keyed,
    quota::MOST_WINDOWS,
    state::{Inner, State},
    wait_queues::WaitQueues,
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

/// What becomes of a new key when [`max_keys`](RateLimiterBuilder::max_keys) are kept and none of
/// them is idle: after a flood of made-up keys, say.
///
/// `overflowed_total` in the limiter's [`Snapshot`](super::Snapshot) tells how many calls this has
/// happened to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyOverflow {
    /// It takes the place of the key that has used least among some twenty, and begins with what
    /// that key has used, though with no more than half of the quota, rounded down.
    ///
    /// So whoever is new is always admitted half of the quota, rounded up, however many keys are
    /// made up. A key that was displaced begins in the same way if it comes back, and may be
    /// admitted half of its quota once more in that window. Whose turn that is: those who have used
    /// little, and others only when a flood has been admitted as much for nearly every key that is
    /// kept.
    ///
    /// This is the default, because the others turn away real clients for as long as a window
    /// lasts, or turn the limit off. (The rule is that of Space-Saving: Metwally, Agrawal, El
    /// Abbadi, *Efficient Computation of Frequent and Top-k Elements in Data Streams*, 2005.)
    #[default]
    ShareSmallest,
    /// Its calls are admitted and not counted, until a place is free: a full table turns the limit
    /// off for those who are new, and for nobody else.
    Admit,
    /// Its calls are refused until a place is free: a full table locks out those who are new, and
    /// the quota holds for every key without exception.
    Refuse,
}

/// The settings of a [`RateLimiter`], begun by [`RateLimiter::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimiterBuilder<K = Global, C = UnitCost, Q = FixedQuota> {
    name: Name,
    quota: u32,
    window: Duration,
    algorithm: Algorithm,
    max_keys: usize,
    key_overflow: KeyOverflow,
    keyed: bool,
    // Not `key`: who calls `.key(..)` is to be told of `keyed`, and not of a private field.
    keyed_by: K,
    cost: C,
    more_windows: Vec<(u32, Duration)>,
    varies: bool,
    quota_by: Q,
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
            key_overflow: KeyOverflow::default(),
            keyed: false,
            keyed_by: Global,
            cost: UnitCost,
            more_windows: Vec::new(),
            varies: false,
            quota_by: FixedQuota,
        }
    }
}

impl<K, C, Q> RateLimiterBuilder<K, C, Q> {
    /// Gives each key a quota of its own, where by default all requests share one quota.
    ///
    /// The key is a closure that returns anything hashable, or one of the ready-made keys of the
    /// `http` feature; see [`Key`].
    ///
    /// [`Key`]: crate::Key
    #[doc(alias = "key")]
    #[doc(alias = "key_extractor")]
    #[doc(alias = "key_by")]
    pub fn keyed<K2>(self, key: K2) -> RateLimiterBuilder<K2, C, Q> {
        RateLimiterBuilder {
            name: self.name,
            quota: self.quota,
            window: self.window,
            algorithm: self.algorithm,
            max_keys: self.max_keys,
            key_overflow: self.key_overflow,
            keyed: true,
            keyed_by: key,
            cost: self.cost,
            more_windows: self.more_windows,
            varies: self.varies,
            quota_by: self.quota_by,
        }
    }

    /// Sets how much of the quota a request takes, by a closure `|req: &Req| -> u32` or another
    /// [`Cost`](super::Cost). By default every request costs 1.
    #[doc(alias = "check_n")]
    #[doc(alias = "weight")]
    pub fn cost<C2>(self, cost: C2) -> RateLimiterBuilder<K, C2, Q> {
        RateLimiterBuilder {
            name: self.name,
            quota: self.quota,
            window: self.window,
            algorithm: self.algorithm,
            max_keys: self.max_keys,
            key_overflow: self.key_overflow,
            keyed: self.keyed,
            keyed_by: self.keyed_by,
            cost,
            more_windows: self.more_windows,
            varies: self.varies,
            quota_by: self.quota_by,
        }
    }

    /// Gives each key the quota that its requests say, by a closure `|req: &Req| -> u32` or another
    /// [`Quota`](super::Quota): that of a plan, a tenant or a user. By default all keys have the
    /// quota that the limiter is built with.
    ///
    /// The closure is asked for every call. What was admitted under another quota in the last
    /// window still counts, so a key whose quota is raised has the difference at once, and one
    /// whose quota is lowered waits until it has used less. Needs [`keyed`](Self::keyed).
    ///
    /// Such a limiter takes about 220 bytes per key and window, and looks at two places in memory
    /// where others look at one.
    #[doc(alias = "per_key_quota")]
    #[doc(alias = "plan")]
    pub fn quota<Q2>(self, quota: Q2) -> RateLimiterBuilder<K, C, Q2> {
        RateLimiterBuilder {
            name: self.name,
            quota: self.quota,
            window: self.window,
            algorithm: self.algorithm,
            max_keys: self.max_keys,
            key_overflow: self.key_overflow,
            keyed: self.keyed,
            keyed_by: self.keyed_by,
            cost: self.cost,
            more_windows: self.more_windows,
            varies: true,
            quota_by: quota,
        }
    }

    /// Adds a window with a quota of its own: a call is admitted if all windows admit it, and takes
    /// from all of them or from none. There may be four in all. By default there is one.
    ///
    /// ```
    /// use buttress::RateLimiter;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// // Ten per second, and a thousand per day.
    /// let limiter = RateLimiter::builder("partner", 10, Duration::from_secs(1))
    ///     .window(1_000, Duration::from_secs(86_400))
    ///     .build()?;
    /// let [second, day] = limiter.statuses(&())[..] else { unreachable!() };
    /// assert_eq!((second.remaining, day.remaining), (10, 1_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// They are counted as the keys of a keyed limiter are, under one lock, also if there are no
    /// keys. They are sliding windows: [`Algorithm::Gcra`] has none.
    #[doc(alias = "bandwidth")]
    pub fn window(mut self, quota: u32, window: Duration) -> Self {
        self.more_windows.push((quota, window));
        self
    }

    /// Sets how admissions are counted. By default [`Algorithm::SlidingWindow`].
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets how many keys are kept at most. From 1 to 4,000,000,000. By default 1,000,000, which
    /// take about 110 MB.
    ///
    /// Idle keys, which have been admitted nothing within the last window, make room for new ones.
    /// If there are none, [`key_overflow`](Self::key_overflow) says what happens. Without
    /// [`keyed`](Self::keyed), this setting has no effect.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Sets what becomes of a new key when there is no place for it. By default
    /// [`KeyOverflow::ShareSmallest`].
    ///
    /// ```
    /// use buttress::rate_limit::{KeyOverflow, RateLimiter};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// // Sign-ups are few: rather none at all than more than three from one address.
    /// let limiter = RateLimiter::builder("sign-ups", 3, Duration::from_secs(86_400))
    ///     .keyed(|req: &(u32, &str)| req.0)
    ///     .max_keys(10_000)
    ///     .key_overflow(KeyOverflow::Refuse)
    ///     .build()?;
    /// assert_eq!(limiter.snapshot().overflowed_total, Some(0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_overflow(mut self, key_overflow: KeyOverflow) -> Self {
        self.key_overflow = key_overflow;
        self
    }
}

impl<K, C, Q> RateLimiterBuilder<K, C, Q> {
    /// Builds the limiter.
    ///
    /// # Errors
    /// If a quota, the burst or `max_keys` is 0, a window is not between 1 ms and 366 days, the
    /// burst lasts for longer than 100 years, there are more than four windows,
    /// [`quota`](Self::quota) is given without [`keyed`](Self::keyed), or either of them together
    /// with [`Algorithm::Gcra`].
    pub fn build(self) -> Result<RateLimiter<K, C, Q>, InvalidConfig> {
        let checked = self.check();
        checked.map_err(|invalid| invalid.named(self.name))?;
        let (quota, window) = (self.quota, nanos(self.window));
        let limit = keyed::KeyLimit {
            max_keys: self.max_keys,
            overflow: self.key_overflow,
        };
        let (state, queues) = match (self.keyed, self.algorithm) {
            _ if self.varies || !self.more_windows.is_empty() => {
                let windows = self.windows().map(|(quota, window)| (quota, nanos(window)));
                // One shard for one count.
                let limit = match self.keyed {
                    true => limit,
                    false => keyed::KeyLimit {
                        max_keys: 1,
                        ..limit
                    },
                };
                let state = keyed::Accounts::new(windows, limit);
                (State::Accounts(state), WaitQueues::new(16))
            }
            (true, algorithm) => {
                let state = keyed::State::new(algorithm, quota, window, limit);
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
            keyed: self.keyed,
            key: self.keyed_by,
            cost: self.cost,
            quota: self.quota_by,
            state,
            queues,
            rejected_total: StripedCounter::default(),
            exempt_total: StripedCounter::default(),
        }))
    }

    /// Returns the quota and the length of every window.
    fn windows(&self) -> impl Iterator<Item = (u32, Duration)> {
        let more = self.more_windows.iter().copied();
        [(self.quota, self.window)].into_iter().chain(more)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let (quota, window) = (self.quota, nanos(self.window));
        for (quota, window) in self.windows() {
            check_quota(quota)?;
            let accepts = "between 1 ms and 366 days";
            let valid = (SHORTEST..=LONGEST).contains(&window);
            InvalidConfig::check(valid, POLICY, "window", window, accepts)?;
        }
        let windows = self.windows().count();
        let valid = windows <= MOST_WINDOWS;
        InvalidConfig::check(valid, POLICY, "windows", windows, "at most 4")?;
        let valid = self.keyed || !self.varies;
        InvalidConfig::check(
            valid,
            POLICY,
            "quota",
            "per request",
            "fixed, without `keyed`",
        )?;
        let sliding = self.algorithm == Algorithm::SlidingWindow;
        let valid = sliding || !self.varies && windows == 1;
        let accepts = "SlidingWindow, with several windows or a quota per key";
        InvalidConfig::check(
            valid,
            POLICY,
            "algorithm",
            format!("{:?}", self.algorithm),
            accepts,
        )?;
        if let Algorithm::Gcra { burst } = self.algorithm {
            check_burst_of(quota, window, burst)?;
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

/// Rejects a burst that admits nothing, or lasts for too long.
pub(super) fn check_burst_of(quota: u32, window: u64, burst: u32) -> Result<(), InvalidConfig> {
    let valid = burst > 0 && burst_ends(quota, window, burst);
    let accepts = "at least 1, and burst * window / quota at most 100 years";
    InvalidConfig::check(valid, POLICY, "burst", burst, accepts)
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
