//! The terms of a cache.

use super::{
    Cache,
    core::{Core, LONGEST},
    counters::CacheCounters,
    failure_memory::FailureMemory,
    freshness::Freshness,
    memory::{DEFAULT_ENTRIES, MemoryStore},
    single_flight::SingleFlight,
    store::Store,
    store_client::StoreClient,
};
use crate::{
    InvalidConfig, Name,
    circuit_breaker::CircuitBreaker,
    retry::{Backoff, Retry},
    rng::Dice,
    shared::Shared,
    timeout::Timeout,
};
use std::{sync::Arc, time::Duration};

/// The settings of a [`Cache`], begun by [`Cache::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Debug)]
pub struct CacheBuilder<St = ()> {
    name: Name,
    freshness: Freshness,
    lease: Duration,
    jitter: f64,
    beta: f64,
    store: St,
    timeout: Duration,
    attempts: u32,
    seed: Option<u64>,
}

impl CacheBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            freshness: Freshness {
                fresh: Duration::from_secs(60),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::from_secs(3600),
            },
            lease: Duration::from_secs(5),
            jitter: 0.1,
            beta: 1.0,
            store: (),
            timeout: Duration::from_millis(100),
            attempts: 2,
            seed: None,
        }
    }

    /// Builds the cache, with a [`MemoryStore`] of 10,000 answers.
    ///
    /// # Errors
    /// If a setting is out of the range that its setter states.
    pub fn build<V>(self) -> Result<Cache<V>, InvalidConfig>
    where
        V: Clone + Send + Sync + 'static,
    {
        self.store(MemoryStore::entries(DEFAULT_ENTRIES)?).build()
    }
}

impl<St> CacheBuilder<St> {
    /// Sets how long an answer is fresh, and how long it may be used when stale. Up to ten years
    /// each.
    ///
    /// By default an answer is fresh for a minute, and for another hour it is returned if a load
    /// fails. Returning it while a new one is loaded (`stale_while_revalidate`) is off by default:
    /// not every application may return stale answers. Answers may have [a freshness of their
    /// own](super::CacheLayer::freshness).
    #[doc(alias = "ttl")]
    #[doc(alias = "time_to_live")]
    #[doc(alias = "expire_after_write")]
    #[doc(alias = "swr")]
    #[doc(alias = "stale_while_revalidate")]
    #[doc(alias = "stale_if_error")]
    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Sets how long a load may go on before another call may load the same entry, and how long a
    /// call waits at most for the loads of others. From 1 ms to an hour. The default is 5 s.
    ///
    /// It should be longer than a load takes. Put a [`Timeout`] that is shorter inside the cache.
    #[doc(alias = "lock_ttl")]
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the largest share by which each answer's fresh time is shortened at random. From 0 to
    /// below 1. The default is 0.1. So answers that were loaded together do not go stale together.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Sets how early an answer that is often asked for is refreshed before it goes stale, as a
    /// multiple of the time that its load takes. From 0, which turns this off, to 10. The default
    /// is 1.
    ///
    /// Each call that finds a fresh answer decides at random whether to load a new one in the
    /// background, with the probability e^(-left / (beta · load time)), where `left` is the time
    /// for which the answer is still fresh. So an answer that nobody asks for is not refreshed, and
    /// one that many ask for rarely goes stale. An answer is never refreshed in the first half of
    /// its fresh time.
    #[doc(alias = "xfetch")]
    #[doc(alias = "refresh_ahead")]
    #[doc(alias = "beta")]
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets how long a question to the store may take, with all attempts together. From 1 ms to an
    /// hour. The default is 100 ms, a hundred times what a healthy store on the same network takes.
    ///
    /// A call asks up to three: for an answer; if it has to load one, to store that; or, if its
    /// load fails, for a stale one, and to give its lease back. After the timeout, or after half of
    /// the time until the call's [deadline](crate::context), the call goes on without the store.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often to ask the store at most, the first time included. From 1 to 10. The default
    /// is 2, because a second attempt finds the connection that replaced a broken one.
    #[must_use]
    pub fn store_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Makes jitter and early refreshes repeatable, for tests. They are random by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets where answers are kept. The default is a [`MemoryStore`] of 10,000 answers.
    #[must_use]
    pub fn store<St2>(self, store: St2) -> CacheBuilder<WithStore<St2>> {
        CacheBuilder {
            name: self.name,
            freshness: self.freshness,
            lease: self.lease,
            jitter: self.jitter,
            beta: self.beta,
            store: WithStore(store),
            timeout: self.timeout,
            attempts: self.attempts,
            seed: self.seed,
        }
    }
}

/// The store of a [`CacheBuilder`] that was given one.
#[derive(Debug)]
pub struct WithStore<St>(St);

impl<St> CacheBuilder<WithStore<St>> {
    /// Builds the cache over the store that was given.
    ///
    /// # Errors
    /// If a setting is out of the range that its setter states.
    pub fn build<V>(self) -> Result<Cache<V, St>, InvalidConfig>
    where
        V: Clone + Send + Sync + 'static,
        St: Store<V>,
    {
        const MS: Duration = Duration::from_millis(1);
        const HOUR: Duration = Duration::from_secs(3600);
        let check = |valid, field, given: &dyn std::fmt::Debug, accepts| {
            InvalidConfig::check(valid, "cache", field, given, accepts)
                .map_err(|invalid| invalid.named(self.name))
        };
        let Freshness {
            fresh,
            stale_while_revalidate,
            stale_if_error,
        } = self.freshness;
        for (field, time) in [
            ("freshness.fresh", fresh),
            ("freshness.stale_while_revalidate", stale_while_revalidate),
            ("freshness.stale_if_error", stale_if_error),
        ] {
            check(time <= LONGEST, field, &time, "at most ten years")?;
        }
        let times = MS..=HOUR;
        let accepts = "1 ms to an hour";
        check(times.contains(&self.lease), "lease", &self.lease, accepts)?;
        check(
            times.contains(&self.timeout),
            "store_timeout",
            &self.timeout,
            accepts,
        )?;
        let share = (0.0..1.0).contains(&self.jitter);
        check(share, "jitter", &self.jitter, "0 to below 1")?;
        let eager = (0.0..=10.0).contains(&self.beta);
        check(eager, "early_refresh", &self.beta, "0 to 10")?;
        let attempts = (1..=10).contains(&self.attempts);
        check(attempts, "store_attempts", &self.attempts, "1 to 10")?;

        let name = self.name.as_str();
        let store_client = StoreClient {
            store: Arc::new(self.store.0),
            // It costs nothing while it is away, and is noticed within a second when it is back.
            breaker: CircuitBreaker::builder(name)
                .open_for(Duration::from_millis(500))
                .max_open_for(Duration::from_secs(1))
                // Callers with less time than the timeout tell of a store that hangs, too, if they
                // waited for it for long.
                .abandoned_after((self.timeout / 4).max(MS))
                .build()?,
            timeout: Timeout::new(name, self.timeout),
            retry: Retry::builder(name)
                .attempts(self.attempts)
                .backoff(Backoff::exponential(self.timeout / 20).max(self.timeout / 4))
                .max_wait(self.timeout)
                .build()?,
        };
        Ok(Cache(Shared::new(Core {
            name,
            freshness: self.freshness,
            lease: self.lease,
            jitter: self.jitter,
            beta: self.beta,
            store_client,
            single_flight: SingleFlight::new(),
            failure_memory: FailureMemory::default(),
            counters: CacheCounters::default(),
            dice: Dice::new(self.seed),
        })))
    }
}
