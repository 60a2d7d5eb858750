//! Limits that are changed while calls come.

use super::{Quotas, RateLimiter, config, quota::MOST_WINDOWS, state::State};
use crate::{
    InvalidConfig,
    clock::{Time, nanos},
};

impl<K, C, Q> RateLimiter<K, C, Q> {
    /// Changes the quota, for all handles and layers of this limiter and for all keys. Of several
    /// windows it is that of the first.
    ///
    /// What was admitted in the last window still counts. Calls that wait are admitted as soon as
    /// the new quota allows it. Under [`Gcra`](super::Algorithm::Gcra), what has been taken of the
    /// burst is made up for at the new rate. Keys whose requests say their
    /// [`quota`](super::RateLimiterBuilder::quota) have that.
    ///
    /// The limiter goes on counting in the way it was built with, or in the coarser one of the
    /// highest quota that it has had. Without keys, if it was built with a quota up to 1024, that
    /// is an exact log. When such a quota is raised above 1024, the log takes 16 bytes for each
    /// admission of the last window, and allocates them as calls come. With keys, every key is
    /// looked at, under the lock of one shard after the other.
    ///
    /// ```
    /// use buttress::RateLimiter;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let limiter = RateLimiter::builder("tenants", 10, Duration::from_secs(1))
    ///     .keyed(|tenant: &u64| *tenant)
    ///     .build()?;
    /// limiter.set_quota(500)?;
    /// assert_eq!(limiter.status(&7).remaining, 500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the quota is 0, or if it would take a full burst longer than 100 years to fall due.
    pub fn set_quota(&self, quota: u32) -> Result<(), InvalidConfig> {
        self.set_quotas(quota)
    }

    /// Changes the quotas of several windows at a time, in the order in which they were given:
    /// `limiter.set_quotas([20, 5_000])`. See [`set_quota`](Self::set_quota).
    ///
    /// # Errors
    /// If a quota is 0, if there are more quotas than windows, or if it would take a full burst
    /// longer than 100 years to fall due. Then none of them is changed.
    pub fn set_quotas(&self, quotas: impl Into<Quotas>) -> Result<(), InvalidConfig> {
        self.change_quotas(quotas.into())
            .map_err(|invalid| invalid.named(self.inner().name))
    }

    fn change_quotas(&self, quotas: Quotas) -> Result<(), InvalidConfig> {
        let (inner, now) = (self.inner(), Time::now().0);
        let given = || (0..MOST_WINDOWS).map_while(|window| quotas.get(window));
        let windows = match &inner.state {
            State::Global(_) | State::Keyed(_) => 1,
            State::Accounts(state) => state.built().count(),
        };
        let fit = given().count() <= windows;
        let accepts = "no more than there are windows";
        InvalidConfig::check(fit, config::POLICY, "quotas", given().count(), accepts)?;
        given().try_for_each(config::check_quota)?;
        let window = nanos(inner.window);
        for (i, quota) in given().enumerate() {
            let burst = match &inner.state {
                State::Global(state) => state.burst(),
                State::Keyed(state) => state.burst(),
                State::Accounts(_) => None,
            };
            if let Some(burst) = burst {
                config::check_burst(quota, window, burst)?;
            }
            match &inner.state {
                State::Global(state) => state.set_quota(quota, window, now),
                State::Keyed(state) => state.set_quota(quota, window, now),
                State::Accounts(state) => state.set_quota(i, quota),
            }
        }
        inner.queues.wake_all();
        Ok(())
    }

    /// Changes how much may come at once under [`Gcra`](super::Algorithm::Gcra), for all handles
    /// and layers of this limiter and for all keys.
    ///
    /// What has been taken stays taken: with a burst of 10 of which 4 are left, a burst of 15
    /// leaves 9.
    ///
    /// ```
    /// use buttress::rate_limit::{Algorithm, RateLimiter};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let limiter = RateLimiter::builder("api", 100, Duration::from_secs(1))
    ///     .algorithm(Algorithm::Gcra { burst: 10 })
    ///     .build()?;
    /// limiter.set_burst(15)?;
    /// assert_eq!(limiter.status(&()).remaining, 15);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the burst is 0, if it would take longer than 100 years to fall due, or if the limiter
    /// counts in sliding windows, which have none.
    pub fn set_burst(&self, burst: u32) -> Result<(), InvalidConfig> {
        let (inner, now) = (self.inner(), Time::now().0);
        let (quota, window) = (self.snapshot().quota, nanos(inner.window));
        let changed = config::check_burst_of(quota, window, burst).and_then(|()| {
            let has_one = match &inner.state {
                State::Global(state) => state.set_burst(burst, window, now),
                State::Keyed(state) => state.set_burst(burst, window, now),
                State::Accounts(_) => false,
            };
            let accepts = "one of Algorithm::Gcra";
            InvalidConfig::check(has_one, config::POLICY, "burst", burst, accepts)
        });
        inner.queues.wake_all();
        changed.map_err(|invalid| invalid.named(inner.name))
    }
}
