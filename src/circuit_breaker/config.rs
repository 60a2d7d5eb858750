use super::{
    CircuitBreaker, KeyedCircuitBreakerBuilder, breaker::Breaker, config_ends::AbandonedRule,
};
use crate::{InvalidConfig, Name, clock::nanos, rng::Dice, shared::stripes};
use std::{sync::Arc, time::Duration};

/// Over which calls rates are taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// Those that ended within this many nanoseconds.
    Time(u64),
    /// This many last ones.
    Count(usize),
}

/// A breaker's settings, checked, in the units of the core: nanoseconds and counts.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: &'static str,
    pub(super) size: Size,
    pub(super) failure_rate: Option<f64>,
    pub(super) consecutive: Option<u64>,
    pub(super) row_within: u64,
    pub(super) slow_rate: Option<f64>,
    pub(super) minimum: u64,
    pub(super) slow: u64,
    pub(super) abandoned: AbandonedRule,
    pub(super) max_retry_after: u64,
    pub(super) overload_pause: Option<u64>,
    pub(super) open_for: u64,
    pub(super) max_open_for: u64,
    pub(super) growth: f64,
    pub(super) jitter: f64,
    pub(super) probes: u32,
    pub(super) needed: u32,
    pub(super) lease: u64,
    pub(super) ramp: Option<u64>,
    pub(super) observe: bool,
    pub(super) dice: Dice,
}

/// The settings of a [`CircuitBreaker`], begun by [`CircuitBreaker::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Clone, Debug)]
pub struct CircuitBreakerBuilder {
    name: Name,
    window: Duration,
    count_window: Option<usize>,
    failure_rate: Option<f64>,
    consecutive_failures: Option<u32>,
    pub(super) consecutive_failures_within: Duration,
    slow_call_rate: Option<f64>,
    minimum_calls: Option<u32>,
    slow_call_duration: Duration,
    pub(super) abandoned: AbandonedRule,
    pub(super) max_retry_after: Option<Duration>,
    pub(super) overload_pause: Option<Duration>,
    open_for: Duration,
    max_open_for: Option<Duration>,
    open_growth: f64,
    open_jitter: f64,
    probes: u32,
    probe_success_ratio: f64,
    probe_timeout: Duration,
    ramp: Option<Duration>,
    observe_only: bool,
    seed: Option<u64>,
}

const MINIMUM: u32 = 20;
const MAX_OPEN: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            window: Duration::from_secs(10),
            count_window: None,
            failure_rate: Some(0.5),
            consecutive_failures: Some(5),
            consecutive_failures_within: MAX_OPEN,
            slow_call_rate: None,
            minimum_calls: None,
            slow_call_duration: Duration::from_millis(250),
            abandoned: AbandonedRule::Silence,
            max_retry_after: None,
            overload_pause: None,
            open_for: Duration::from_secs(5),
            max_open_for: None,
            open_growth: 2.0,
            open_jitter: 0.2,
            probes: 1,
            probe_success_ratio: 1.0,
            probe_timeout: Duration::from_secs(10),
            ramp: None,
            observe_only: false,
            seed: None,
        }
    }

    /// Sets the time over which rates are taken: over the calls that ended within it. At least
    /// 10 ms.
    ///
    /// The default is 10 s: long enough to reach the minimum at two calls a second, short enough
    /// that an hour of health does not hide a minute of failure. The window slides in tenths, so a
    /// call leaves it when between nine tenths of the window and the whole of it have passed. With
    /// fewer calls than the [minimum](Self::minimum_calls) it reaches back for more.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        (self.window, self.count_window) = (window, None);
        self
    }

    /// Takes rates over the last calls, this many, whenever they ended, instead of over a time. 1
    /// to 1 000 000.
    ///
    /// The window slides call by call. It costs a short lock per call, which the window in time
    /// does not, and it remembers failures for as long as nobody calls.
    #[must_use]
    pub fn count_window(mut self, calls: usize) -> Self {
        self.count_window = Some(calls);
        self
    }

    /// Sets the share of failed calls in the window at which the breaker trips. Above 0 and at most
    /// 1.
    ///
    /// Reaching it is enough. The default is 0.5: a dependency that answers most calls is worth
    /// calling.
    #[doc(alias = "failure_threshold")]
    #[must_use]
    pub fn failure_rate(mut self, share: f64) -> Self {
        self.failure_rate = Some(share);
        self
    }

    /// Removes the rule that trips the breaker at a share of failures.
    #[must_use]
    pub fn without_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Sets how many failures without a success between them trip the breaker, whatever the minimum
    /// of calls. At least 1.
    ///
    /// The default is 5: a dependency that is gone is noticed after five calls, and where half of
    /// the calls fail, five in a row fail by chance one time in 32.
    #[doc(alias = "failure_threshold")]
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Removes the rule that trips the breaker at a number of failures in a row.
    #[must_use]
    pub fn without_consecutive_failures(mut self) -> Self {
        self.consecutive_failures = None;
        self
    }

    /// Sets how many calls there have to be before rates count. At least 1, and no more than a
    /// [window of calls](Self::count_window) holds.
    ///
    /// While a window in time has fewer, rates are taken over as many windows back as it takes to
    /// have so many, ten at most: a service that gets one call in four seconds and fails half of
    /// them is noticed, too.
    ///
    /// The default is 20, or the whole of a smaller window of calls: with fewer, chance decides.
    /// The call that completes the minimum may trip the breaker, even if it succeeded.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// Sets the time from which on a call is slow. At least 1 ms. The default is 250 ms, at which
    /// an answer to a person begins to feel late.
    ///
    /// A slow call counts as a success or a failure as usual, and for the [slow-call
    /// rate](Self::slow_call_rate) as well. It says nothing about calls that their callers gave up
    /// on: see [`abandoned_after`](Self::abandoned_after).
    #[must_use]
    pub fn slow_call_duration(mut self, duration: Duration) -> Self {
        self.slow_call_duration = duration;
        self
    }

    /// Sets the share of slow calls at which the breaker trips. Above 0 and at most 1. Off by
    /// default: what is slow depends on the dependency.
    ///
    /// Calls that are still running count as soon as they are slow, but not while they wait for
    /// another policy. With this rule, a slow probe is a failed one.
    #[must_use]
    pub fn slow_call_rate(mut self, share: f64) -> Self {
        self.slow_call_rate = Some(share);
        self
    }

    /// Sets how long the breaker stays open, and rejects calls, before it lets probes through. At
    /// least 1 ms. The default is 5 s: a restart takes about that long.
    #[doc(alias = "reset_timeout")]
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Sets the longest open time to which [growth](Self::open_growth) leads. At least
    /// [`open_for`](Self::open_for).
    ///
    /// The default is 60 s, or `open_for` if that is longer: a dependency that is back does not
    /// wait for longer than a minute. Jitter may exceed it, and so may a wait that the dependency
    /// itself asks for, if [`max_retry_after`](Self::max_retry_after) is longer or the breaker
    /// [opens for it](Self::open_when_overloaded).
    #[must_use]
    pub fn max_open_for(mut self, time: Duration) -> Self {
        self.max_open_for = Some(time);
        self
    }

    /// Sets what the open time is multiplied by whenever the probes fail, until the breaker closes.
    /// At least 1, which keeps the open time constant. The default is 2.
    #[must_use]
    pub fn open_growth(mut self, factor: f64) -> Self {
        self.open_growth = factor;
        self
    }

    /// Sets the share of itself by which each open time is made longer or shorter, at most and at
    /// random. 0 to below 1. The default is 0.2, so that a fleet that tripped together does not
    /// probe together.
    #[must_use]
    pub fn open_jitter(mut self, share: f64) -> Self {
        self.open_jitter = share;
        self
    }

    /// Sets how many calls a half-open breaker lets through as probes before it decides. 1 to 1
    /// 000. The default is 1, the least load on something that may be ill.
    #[doc(alias = "half_open_max_calls")]
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets the share of probes, rounded up to a whole number, that must succeed for the breaker to
    /// close. Above 0 and at most 1. The default is 1.
    ///
    /// The breaker opens again as soon as that share cannot be reached any more.
    #[must_use]
    pub fn probe_success_ratio(mut self, share: f64) -> Self {
        self.probe_success_ratio = share;
        self
    }

    /// Sets how long a probe may run before another one is let through in its place, and its own
    /// result is ignored. At least 1 ms.
    ///
    /// It must be longer than a healthy call can take, or the breaker would never close. The
    /// default is 10 s, longer than nearly every timeout: a probe that its caller gives up on ends
    /// by itself, so this is only for probes that nobody gives up on. The answer's head, or the
    /// first message of a gRPC answer, decides; a long body needs no long lease. A probe that waits
    /// for another policy, in a limiter's line or a retry's backoff, may lose its place as well,
    /// but is not ignored: when its wait is over it has a place again, and as much time.
    #[must_use]
    pub fn probe_timeout(mut self, time: Duration) -> Self {
        self.probe_timeout = time;
        self
    }

    /// Sets a time after closing over which the share of admitted calls grows from a tenth to all
    /// of them. At least 10 ms. Off by default: with few callers, a dependency that passed its
    /// probes can take all calls at once. For one that has to warm up, try 5 to 10 s.
    ///
    /// A failure during this time halves the share, and fewer than five in a row do not trip the
    /// breaker. Once the share is down to a tenth, failures count as they always do.
    #[must_use]
    pub fn ramp(mut self, time: Duration) -> Self {
        self.ramp = Some(time);
        self
    }

    /// Sets whether the breaker only observes, which means that it rejects nothing, but goes
    /// through all states, reports them, and counts what it would have rejected. The default is
    /// `false`.
    #[must_use]
    pub fn observe_only(mut self, observe: bool) -> Self {
        self.observe_only = observe;
        self
    }

    /// Makes the jitter and the ramp repeatable, for tests. They are random by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns the settings of one breaker per key. Each breaker gets the settings made here.
    #[must_use]
    pub fn keyed<K>(self, key: K) -> KeyedCircuitBreakerBuilder<K> {
        KeyedCircuitBreakerBuilder::new(self, key)
    }

    /// Builds the breaker.
    ///
    /// # Errors
    /// [`InvalidConfig`] if a setting is out of its range, or if no rule is left that could trip
    /// it.
    pub fn build(self) -> Result<CircuitBreaker, InvalidConfig> {
        self.check()?;
        Ok(self.unchecked())
    }

    pub(super) fn unchecked(self) -> CircuitBreaker {
        CircuitBreaker(Arc::new(Breaker::new(Arc::new(self.config()), stripes())))
    }

    pub(super) fn config(self) -> Config {
        let probes = self.probes.max(1);
        // The tolerance is for shares that binary fractions do not hold: 0.1 of 30 is 3.
        let needed = (self.probe_success_ratio * f64::from(probes) - 1e-9).ceil();
        let minimum = self.minimum_calls.unwrap_or_else(|| self.default_minimum());
        let max_open_for = self.max_open_for.unwrap_or(MAX_OPEN).max(self.open_for);
        Config {
            name: self.name.as_str(),
            size: match self.count_window {
                Some(calls) => Size::Count(calls),
                None => Size::Time(nanos(self.window)),
            },
            failure_rate: self.failure_rate,
            consecutive: self.consecutive_failures.map(u64::from),
            row_within: nanos(self.consecutive_failures_within),
            slow_rate: self.slow_call_rate,
            minimum: u64::from(minimum),
            slow: nanos(self.slow_call_duration),
            abandoned: self.abandoned,
            max_retry_after: nanos(self.max_retry_after.unwrap_or(max_open_for)),
            overload_pause: self.overload_pause.map(nanos),
            open_for: nanos(self.open_for),
            max_open_for: nanos(max_open_for),
            growth: self.open_growth,
            jitter: self.open_jitter,
            probes,
            needed: (needed as u32).clamp(1, probes),
            lease: nanos(self.probe_timeout),
            ramp: self.ramp.map(nanos),
            observe: self.observe_only,
            dice: Dice::new(self.seed),
        }
    }

    fn default_minimum(&self) -> u32 {
        let window = self
            .count_window
            .map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
        MINIMUM.min(window)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let checked = self.check_settings();
        checked.map_err(|invalid| invalid.named(self.name))
    }

    pub(super) fn name(&self) -> Name {
        self.name
    }

    fn check_settings(&self) -> Result<(), InvalidConfig> {
        const SHARE: &str = "above 0 and at most 1";
        fn check(
            valid: bool,
            field: &'static str,
            given: impl std::fmt::Debug,
            accepts: &'static str,
        ) -> Result<(), InvalidConfig> {
            InvalidConfig::check(valid, "circuit breaker", field, given, accepts)
        }
        // Written so that NaN is refused: it is in no range.
        let share = |s: f64| s > 0.0 && s <= 1.0;

        let (window, ten) = (self.window, 10 * MILLISECOND);
        check(window >= ten, "window", window, "at least 10 ms")?;
        if let Some(calls) = self.count_window {
            let valid = (1..=1_000_000).contains(&calls);
            check(valid, "count_window", calls, "1 to 1 000 000 calls")?;
            let minimum = self.minimum_calls.unwrap_or(1);
            let valid = u64::from(minimum) <= calls as u64;
            let field = "minimum_calls";
            check(
                valid,
                field,
                minimum,
                "no more than the window of calls holds",
            )?;
        }
        for (field, rate) in [
            ("failure_rate", self.failure_rate),
            ("slow_call_rate", self.slow_call_rate),
        ] {
            check(rate.is_none_or(share), field, rate.unwrap_or(0.0), SHARE)?;
        }
        let row = self.consecutive_failures;
        check(row != Some(0), "consecutive_failures", 0, "at least 1")?;
        let no_rule = self.failure_rate.is_none() && row.is_none() && self.slow_call_rate.is_none();
        check(!no_rule, "rules", "none", "at least one that can trip")?;
        check(
            self.minimum_calls != Some(0),
            "minimum_calls",
            0,
            "at least 1",
        )?;
        for (field, time) in [
            (
                "consecutive_failures_within",
                self.consecutive_failures_within,
            ),
            ("slow_call_duration", self.slow_call_duration),
            ("open_for", self.open_for),
            ("probe_timeout", self.probe_timeout),
        ] {
            check(time >= MILLISECOND, field, time, "at least 1 ms")?;
        }
        let most = self.max_open_for.unwrap_or(Duration::MAX);
        check(
            most >= self.open_for,
            "max_open_for",
            most,
            "at least open_for",
        )?;
        let growth = self.open_growth;
        let valid = growth >= 1.0 && growth.is_finite();
        check(valid, "open_growth", growth, "at least 1, and finite")?;
        let jitter = self.open_jitter;
        let valid = (0.0..1.0).contains(&jitter);
        check(valid, "open_jitter", jitter, "at least 0 and below 1")?;
        let valid = (1..=1_000).contains(&self.probes);
        check(valid, "probes", self.probes, "1 to 1 000")?;
        let ratio = self.probe_success_ratio;
        check(share(ratio), "probe_success_ratio", ratio, SHARE)?;
        let ramp = self.ramp.unwrap_or(ten);
        check(ramp >= ten, "ramp", ramp, "at least 10 ms")?;
        self.check_ends()
    }
}
