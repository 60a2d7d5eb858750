use super::{CircuitBreaker, KeyedCircuitBreakerBuilder, breaker::Breaker};
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
    pub(super) slow_rate: Option<f64>,
    pub(super) minimum: u64,
    pub(super) slow: u64,
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

/// Settings of a [`CircuitBreaker`], each with a [default](super#defaults).
#[derive(Clone, Debug)]
pub struct CircuitBreakerBuilder {
    name: Name,
    window: Duration,
    count_window: Option<usize>,
    failure_rate: Option<f64>,
    consecutive_failures: Option<u32>,
    slow_call_rate: Option<f64>,
    minimum_calls: Option<u32>,
    slow_call_duration: Duration,
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
            slow_call_rate: None,
            minimum_calls: None,
            slow_call_duration: Duration::from_millis(250),
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

    /// Takes rates over the calls that ended within this time: 10 s unless told otherwise, long
    /// enough to hold the minimum at two calls a second, short enough that an hour of health does
    /// not hide a minute of failure. At least 10 ms.
    ///
    /// It slides in tenths: a call is forgotten between nine tenths of the window and the whole of
    /// it after it ended.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        (self.window, self.count_window) = (window, None);
        self
    }

    /// Takes rates over this many last calls, whenever they ended; 1 to 1 000 000.
    ///
    /// It slides call by call. It costs a short lock per call, which the window in time does not,
    /// and it remembers failures for as long as nobody calls.
    #[must_use]
    pub fn count_window(mut self, calls: usize) -> Self {
        self.count_window = Some(calls);
        self
    }

    /// Trips when this share of the calls in the window failed, above 0 and at most 1; reaching it
    /// is enough. 0.5 unless told otherwise: a dependency that answers most calls is worth calling.
    #[doc(alias = "failure_threshold")]
    #[must_use]
    pub fn failure_rate(mut self, share: f64) -> Self {
        self.failure_rate = Some(share);
        self
    }

    /// Removes the rule for the share of failures.
    #[must_use]
    pub fn without_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Trips at this many failures without a success between them, whatever the minimum of calls;
    /// at least 1. 5 unless told otherwise: at a failure rate of a half that happens by chance to
    /// one run of calls in 32, and a dependency that is gone is noticed after five calls.
    #[doc(alias = "failure_threshold")]
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Removes the rule for failures in a row.
    #[must_use]
    pub fn without_consecutive_failures(mut self) -> Self {
        self.consecutive_failures = None;
        self
    }

    /// Looks at rates from this many calls in the window on; at least 1, and no more than a window
    /// of calls holds. 20 unless told otherwise (or the whole of a smaller window of calls): with
    /// less, chance decides. The call that completes the minimum may trip, even if it succeeded.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// Sets how long a call runs that is slow; at least 1 ms. 250 ms unless told otherwise, at
    /// which an answer to a person begins to feel late.
    ///
    /// A slow call counts twice: as what it ended in, and for the [slow-call
    /// rate](Self::slow_call_rate). A call that its caller gave up on counts as a failure if it was
    /// slow, whether or not there is a rate: this is how a timeout outside the breaker tells it of
    /// a dependency that hangs.
    #[must_use]
    pub fn slow_call_duration(mut self, duration: Duration) -> Self {
        self.slow_call_duration = duration;
        self
    }

    /// Trips when this share of the calls in the window was slow, or is running and slow already;
    /// above 0 and at most 1. Off unless told otherwise: what is slow depends on the dependency.
    ///
    /// With it, a slow probe is a failed one.
    #[must_use]
    pub fn slow_call_rate(mut self, share: f64) -> Self {
        self.slow_call_rate = Some(share);
        self
    }

    /// Rejects calls for this long, then probes; at least 1 ms. 5 s unless told otherwise: a
    /// restart takes about that long, and users do not notice much more.
    #[doc(alias = "reset_timeout")]
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Limits the open time to which [growth](Self::open_growth) leads, to not less than
    /// [`open_for`](Self::open_for). 60 s unless told otherwise (or `open_for` if that is longer):
    /// a dependency that is back is not kept waiting for longer than a minute.
    ///
    /// Jitter comes on top of it, and so does the wait that the dependency itself asks for.
    #[must_use]
    pub fn max_open_for(mut self, time: Duration) -> Self {
        self.max_open_for = Some(time);
        self
    }

    /// Multiplies the open time by this whenever the probes fail, until the breaker closes; 1 or
    /// more. 2 unless told otherwise; 1 keeps it constant.
    #[must_use]
    pub fn open_growth(mut self, factor: f64) -> Self {
        self.open_growth = factor;
        self
    }

    /// Makes each open time longer or shorter by up to this share of it, at random; 0 to below 1.
    /// 0.2 unless told otherwise, so that a fleet that tripped together does not probe together.
    #[must_use]
    pub fn open_jitter(mut self, share: f64) -> Self {
        self.open_jitter = share;
        self
    }

    /// Decides on this many probes when half-open; 1 to 1 000. 1 unless told otherwise, the least
    /// load on something that may be ill.
    #[doc(alias = "half_open_max_calls")]
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Closes when this share of the probes (rounded up) succeeded, above 0 and at most 1, and
    /// opens again as soon as it no longer can. 1 unless told otherwise.
    #[must_use]
    pub fn probe_success_ratio(mut self, share: f64) -> Self {
        self.probe_success_ratio = share;
        self
    }

    /// Lets another probe through when one has not ended for this long; its result is ignored then.
    /// At least 1 ms. 10 s unless told otherwise: longer than nearly every timeout, because a probe
    /// that its caller gives up on ends by itself and this is for those that nobody gives up on.
    /// It must be longer than a healthy call can take, or the breaker would never close.
    #[must_use]
    pub fn probe_timeout(mut self, time: Duration) -> Self {
        self.probe_timeout = time;
        self
    }

    /// Lets in, after closing, a share of the calls that grows from a tenth to all of them over
    /// this time; at least 10 ms. Off unless told otherwise: with few callers a dependency that
    /// passed its probes can take them all. For one that has to warm up, 5 to 10 s.
    ///
    /// A failure meanwhile halves the share; at a tenth, the rules decide as they always do.
    #[must_use]
    pub fn ramp(mut self, time: Duration) -> Self {
        self.ramp = Some(time);
        self
    }

    /// Rejects nothing, but goes through all states, reports them and counts what it would have
    /// rejected. False unless told otherwise.
    #[must_use]
    pub fn observe_only(mut self, observe: bool) -> Self {
        self.observe_only = observe;
        self
    }

    /// Makes the jitter and the ramp repeatable. Random unless told otherwise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns settings for one breaker per key, each of them with what is set here.
    #[must_use]
    pub fn keyed<K>(self, key: K) -> KeyedCircuitBreakerBuilder<K> {
        KeyedCircuitBreakerBuilder::new(self, key)
    }

    /// Returns the breaker.
    ///
    /// # Errors
    /// [`InvalidConfig`] if a setting is out of its range, or if no rule is left that could trip.
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
        Config {
            name: self.name.as_str(),
            size: match self.count_window {
                Some(calls) => Size::Count(calls),
                None => Size::Time(nanos(self.window)),
            },
            failure_rate: self.failure_rate,
            consecutive: self.consecutive_failures.map(u64::from),
            slow_rate: self.slow_call_rate,
            minimum: u64::from(minimum),
            slow: nanos(self.slow_call_duration),
            open_for: nanos(self.open_for),
            max_open_for: nanos(self.max_open_for.unwrap_or(MAX_OPEN).max(self.open_for)),
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
        check(ramp >= ten, "ramp", ramp, "at least 10 ms")
    }
}
