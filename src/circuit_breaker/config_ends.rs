//! The settings that say what a breaker learns from calls that were left, and from a dependency
//! that says when to come back.

use super::config::CircuitBreakerBuilder;
use crate::{InvalidConfig, clock::nanos};
use std::time::Duration;

/// What a call says whose caller left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AbandonedRule {
    /// With other late ones and no answer in between, that the dependency hangs.
    Silence,
    /// With other late ones and no answer in between, that the dependency hangs; with unusually
    /// many late ones among those that are answered, that it hangs for some.
    SilenceOrRate,
    /// That it has failed, from so many nanoseconds on.
    After(u64),
    Never,
}

impl AbandonedRule {
    /// Returns whether calls that were left are compared with those that were answered.
    pub(super) fn compares(self) -> bool {
        matches!(self, Self::Silence | Self::SilenceOrRate)
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl CircuitBreakerBuilder {
    /// Sets how long after one failure the next one still follows it in a row. A later one begins a
    /// new row. At least 1 ms.
    ///
    /// The default is 60 s, the longest open time: of calls that come more rarely an open breaker
    /// would reject none, and failures hours apart say nothing of each other.
    #[must_use]
    pub fn consecutive_failures_within(mut self, time: Duration) -> Self {
        self.consecutive_failures_within = time;
        self
    }

    /// Makes a call that its caller gave up on a failure, if it had been in the service for this
    /// long. At least 1 ms.
    ///
    /// It takes the place of the [rules](super#calls-that-are-given-up) that compare such calls
    /// with usual ones, for services whose callers never leave before this time while all is well:
    /// the breaker then opens after five of them, and not after twenty.
    #[must_use]
    pub fn abandoned_after(mut self, time: Duration) -> Self {
        self.abandoned = AbandonedRule::After(nanos(time));
        self
    }

    /// Has calls that their callers gave up on count nowhere, however long they took.
    ///
    /// For services whose calls are given up as a matter of course and are answered rarely. A
    /// service that hangs is then noticed by limits of your own only, such as a
    /// [`Timeout`](crate::Timeout).
    #[must_use]
    pub fn ignore_abandoned(mut self) -> Self {
        self.abandoned = AbandonedRule::Never;
        self
    }

    /// Has the breaker also open when half of the calls or more are given up after four times the
    /// usual time, at least 250 ms, and usually are not. Off by default.
    ///
    /// It notices a dependency that hangs for some of its callers, which the default does not. But
    /// it also opens where a slow route that callers leave is suddenly called much, because that
    /// looks the same. What is usual has to be known first, after 200 calls and a minute. Where
    /// some calls usually are, it takes half of the way from their share to all. Costs a short lock
    /// per call.
    #[must_use]
    pub fn detect_partial_hangs(mut self) -> Self {
        self.abandoned = AbandonedRule::SilenceOrRate;
        self
    }

    /// Sets for how long a wait that the dependency asks for (`Retry-After`) is believed. Zero
    /// ignores such waits.
    ///
    /// The default is [`max_open_for`](Self::max_open_for): a wait of a day is a mistake, or was
    /// meant for one user. If the breaker trips while such a wait lasts, it stays open until its
    /// end. A success cancels it.
    #[must_use]
    pub fn max_retry_after(mut self, time: Duration) -> Self {
        self.max_retry_after = Some(time);
        self
    }

    /// Has the breaker open for as long as the dependency asks, but no longer than this, whenever
    /// an `Overloaded` says when to come back. At least 1 ms. Off by default.
    ///
    /// For a dependency whose refusals are about the whole of it, such as a partner with one quota
    /// for all your calls. Where a refusal is about one user or one key, all others would be
    /// refused with it: use a [keyed](Self::keyed) breaker there, or none of this. An answer to a
    /// call that was on its way does not end the wait, since it says nothing about new ones. After
    /// the wait a probe is sent, as always.
    #[doc(alias = "retry_after")]
    #[must_use]
    pub fn open_when_overloaded(mut self, at_most: Duration) -> Self {
        self.overload_pause = Some(at_most);
        self
    }

    pub(super) fn check_ends(&self) -> Result<(), InvalidConfig> {
        let after = match self.abandoned {
            AbandonedRule::After(nanos) => Duration::from_nanos(nanos),
            _ => MILLISECOND,
        };
        let pause = self.overload_pause.unwrap_or(MILLISECOND);
        for (field, time) in [("abandoned_after", after), ("open_when_overloaded", pause)] {
            let valid = time >= MILLISECOND;
            InvalidConfig::check(valid, "circuit breaker", field, time, "at least 1 ms")?;
        }
        Ok(())
    }
}
