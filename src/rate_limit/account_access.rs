//! What is done with the count of a key besides calls: looking, charging, refunding, forgetting.

use super::{Cost, Quota, RateLimiter};
use crate::{Key, Rejected, clock::Time};

impl<K, C, Q> RateLimiter<K, C, Q> {
    /// Looks whether a call for this request would be admitted now. Takes nothing, and counts no
    /// refusal.
    ///
    /// ```
    /// use buttress::RateLimiter;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let limiter = RateLimiter::new("mails", 1, Duration::from_secs(60))?;
    /// assert!(limiter.peek(&()).is_ok());
    /// limiter.charge(&(), 1);
    /// let rejected = limiter.peek(&()).unwrap_err();
    /// assert!(rejected.retry_after().is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The rejection that the call would get, if it would get one.
    pub fn peek<Req>(&self, req: &Req) -> Result<(), Rejected>
    where
        K: Key<Req>,
        C: Cost<Req>,
        Q: Quota<Req>,
    {
        let (inner, now) = (self.inner(), Time::now());
        let (key, cost) = inner.identify(req);
        let peeked = inner.peek(&inner.caller_of(key, req), cost, now);
        peeked.map_err(|until| inner.rejection(until, now))
    }

    /// Forgets what the key of this request has used, and its debt: it has its whole quota again at
    /// once.
    ///
    /// ```
    /// use buttress::RateLimiter;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let limiter = RateLimiter::builder("api", 100, Duration::from_secs(60))
    ///     .keyed(|tenant: &u64| *tenant)
    ///     .build()?;
    /// limiter.charge(&7, 5_000);
    /// assert!(limiter.peek(&7).is_err());
    /// limiter.reset(&7);
    /// assert_eq!(limiter.status(&7).remaining, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset<Req>(&self, req: &Req)
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        self.inner().reset(&self.caller(req));
    }

    /// Counts a cost that is known only when a call has ended, such as the tokens that it used or
    /// the bytes that it sent, on top of what the call took when it was admitted.
    ///
    /// What does not fit into the quota is a debt: it is counted as soon as there is room for it,
    /// and until then no call of this key is admitted. So over time no more is used than the quota,
    /// however much more than expected single calls turn out to cost.
    ///
    /// ```
    /// use buttress::{Error, RateLimiter};
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // 1,000 tokens a minute.
    /// let limiter = RateLimiter::new("model", 1_000, Duration::from_secs(60))?;
    /// let ask = async || {
    ///     let tokens = limiter.run(async || Ok::<_, Error<Infallible>>(600)).await?;
    ///     // The call itself took 1.
    ///     limiter.charge(&(), tokens - 1);
    ///     Ok::<_, Error<Infallible>>(())
    /// };
    /// ask().await?;
    /// ask().await?;
    /// assert_eq!(limiter.status(&()).debt, 200);
    /// assert!(ask().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "debit")]
    #[doc(alias = "consume")]
    pub fn charge<Req>(&self, req: &Req, cost: u32)
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        if cost > 0 {
            self.inner().charge(&self.caller(req), cost, Time::now());
        }
    }

    /// Gives back a part of what this key was admitted or charged: what a call turned out not to
    /// need, or all of it, if only calls that fail are to count.
    ///
    /// A debt is forgiven first, and then what would leave the window first. Refund what was taken
    /// within the last window: what was taken before that has left it without a refund.
    ///
    /// ```
    /// use buttress::RateLimiter;
    /// use std::time::Duration;
    ///
    /// struct LogIn { user: u64 }
    ///
    /// # async fn check(_: &LogIn) -> Result<(), std::io::Error> { Ok(()) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Five wrong passwords an hour; right ones do not count.
    /// let limiter = RateLimiter::builder("log-ins", 5, Duration::from_secs(3_600))
    ///     .keyed(|log_in: &LogIn| log_in.user)
    ///     .build()?;
    /// let log_in = LogIn { user: 7 };
    /// for _ in 0..10 {
    ///     let checked = async || check(&log_in).await.map_err(buttress::Error::Service);
    ///     limiter.run_for(&log_in, checked).await?;
    ///     limiter.refund(&log_in, 1);
    /// }
    /// assert_eq!(limiter.status(&log_in).remaining, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn refund<Req>(&self, req: &Req, cost: u32)
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        if cost > 0 {
            self.inner().refund(&self.caller(req), cost, Time::now());
        }
    }
}
