use super::{Backoff, Budget, Core, Retry};
use crate::{
    error::{InvalidConfig, Name},
    rng::Dice,
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The settings of a [`Retry`], begun by [`Retry::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Debug)]
pub struct RetryBuilder {
    name: Name,
    attempts: u32,
    backoff: Backoff,
    budget: Option<Budget>,
    max_wait: Duration,
    seed: Option<u64>,
}

impl RetryBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            attempts: 3,
            backoff: Backoff::default(),
            budget: None,
            max_wait: Duration::from_secs(5),
            seed: None,
        }
    }

    /// Sets the largest number of attempts at one call, the first included. At least 1, which
    /// retries nothing. By default 3: if two retries do not help, a third rarely does.
    #[doc(alias("max_attempts", "max_retries", "with_max_times"))]
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Sets how long to wait between attempts. By default [`Backoff::default`], which is
    /// exponential: 100 ms, doubled for each further attempt up to 5 s, with full jitter.
    #[doc(alias = "exponential_backoff")]
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets the budget that retries are paid from. By default a [`Budget::new`] of this policy's
    /// own.
    #[doc(alias("retry_budget", "retry_throttling"))]
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Sets the longest wait before another attempt, whether the service asks for it
    /// (`Retry-After`, gRPC's pushback) or the backoff does. By default 5 s, because waiting is the
    /// caller's time, and few people wait for longer.
    ///
    /// If the wait would be longer, the caller gets the real answer at once. Jitter may add up to a
    /// tenth to what the service asked for. It bounds each wait of a call, of which there is one
    /// fewer than [`attempts`](Self::attempts); a `DeadlineLayer` outside bounds the whole call.
    /// For work that nobody waits for, such as jobs at night, set it to minutes, and the [maximum
    /// of the backoff](Backoff::max) as well.
    #[doc(alias("max_retry_after", "max_delay"))]
    #[must_use]
    pub fn max_wait(self, longest: Duration) -> Self {
        Self {
            max_wait: longest,
            ..self
        }
    }

    /// Makes the jitter repeatable, for tests and simulations. By default it is random.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// Builds the policy.
    ///
    /// # Errors
    /// If there is to be no attempt, or a setting of the backoff is out of its range.
    pub fn build(self) -> Result<Retry, InvalidConfig> {
        InvalidConfig::check(
            self.attempts > 0,
            "retry",
            "attempts",
            self.attempts,
            "at least 1",
        )
        .and_then(|()| self.backoff.check())
        .map_err(|invalid| invalid.named(self.name))?;
        Ok(self.make())
    }

    /// Builds the retry of valid terms, such as the defaults are.
    pub(super) fn make(self) -> Retry {
        debug_assert!(self.attempts > 0 && self.backoff.check().is_ok());
        Retry(Arc::new(Core {
            name: self.name.as_str(),
            max_attempts: self.attempts,
            backoff: self.backoff,
            budget: self.budget.unwrap_or_default(),
            max_wait: self.max_wait,
            dice: Dice::new(self.seed),
            failed_attempts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
        }))
    }
}
