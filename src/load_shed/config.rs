use super::{
    Equal, Inner, LoadShed,
    control::LimitControl,
    gate::Gate,
    limit::{Adaptive, Limit},
    priority::Threshold,
    queue::Discipline,
    stripes::MAX_LIMIT,
};
use crate::{
    InvalidConfig, Kind, Name, Rejected, clock::nanos, rng::Dice, shared::stripes,
    striped::StripedCounter,
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The configuration of a [`LoadShed`], begun by [`LoadShed::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Debug)]
#[must_use]
pub struct LoadShedBuilder<P = Equal> {
    name: Name,
    limit: Choice,
    queue: usize,
    wait: Duration,
    overloaded_wait: Duration,
    overloaded_after: Duration,
    retry_after: Duration,
    priority: P,
    ranked: bool,
    seed: Option<u64>,
}

#[derive(Debug)]
enum Choice {
    Fixed(usize),
    Rule(Box<dyn Limit>),
}

const POLICY: &str = "load shed";
const MAX_QUEUE: usize = 1_000_000;
const LONGEST: Duration = Duration::from_secs(3_600);

impl LoadShedBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            limit: Choice::Rule(Box::new(Adaptive::default())),
            queue: 1_000,
            wait: Duration::from_millis(100),
            overloaded_wait: Duration::from_millis(20),
            overloaded_after: Duration::from_millis(100),
            retry_after: Duration::from_millis(1),
            priority: Equal,
            ranked: false,
            seed: None,
        }
    }

    /// Sets how much a request matters: a closure `|req: &Req| Criticality::...`, or one that
    /// returns a [`Priority`](super::Priority) with a user. By default all matter equally.
    ///
    /// It is asked only when there is more than there is room for, and only by
    /// [`queued`](LoadShed::queued): then less important requests are refused, as many as have to
    /// be, a more important one takes the place of a less important one in a full queue, and goes
    /// first. The other modes have nobody to choose from.
    pub fn priority<P>(self, priority: P) -> LoadShedBuilder<P> {
        LoadShedBuilder {
            name: self.name,
            limit: self.limit,
            queue: self.queue,
            wait: self.wait,
            overloaded_wait: self.overloaded_wait,
            overloaded_after: self.overloaded_after,
            retry_after: self.retry_after,
            priority,
            ranked: true,
            seed: self.seed,
        }
    }
}

impl<P> LoadShedBuilder<P> {
    /// Sets a limit that stays what it is: so many calls at once, 1 to 1,000,000.
    ///
    /// Right where the service's parallelism is known (its workers, its connections): then all that
    /// waits, waits here, and its delay is exact.
    #[doc(alias("max_concurrent_calls", "concurrency_limit", "semaphore"))]
    pub fn fixed(mut self, limit: usize) -> Self {
        self.limit = Choice::Fixed(limit);
        self
    }

    /// Sets a rule by which the limit changes. By default [`Adaptive`], because what a service can
    /// do at once is rarely known and seldom stays the same.
    #[doc(alias("adaptive_concurrency", "aimd", "vegas", "gradient"))]
    pub fn limit(mut self, rule: impl Limit) -> Self {
        self.limit = Choice::Rule(Box::new(rule));
        self
    }

    /// Sets how many requests may wait, 1 to 1,000,000. By default 1,000: the time they may wait is
    /// the bound that matters, this one is for memory (some 100 bytes a request, beside the request
    /// itself).
    ///
    /// Only [`queued`](LoadShed::queued) makes use of it.
    #[doc(alias("max_queue", "backlog"))]
    pub fn queue(mut self, capacity: usize) -> Self {
        self.queue = capacity;
        self
    }

    /// Sets how long a request may wait while the queue is well. By default 100 ms, which outlasts
    /// a burst; Facebook's value for all its services ("Fail at Scale"). Above 0, up to an hour.
    #[doc(alias = "max_wait_duration")]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a request may wait under standing overload. By default 20 ms: in our
    /// simulation the best of those tried, 5 ms to 100 ms. Shorter leaves workers idle between
    /// requests, longer keeps admitted ones waiting for nothing. Above 0, up to an hour.
    #[doc(alias("codel_target", "target_delay"))]
    pub fn overloaded_wait(mut self, wait: Duration) -> Self {
        self.overloaded_wait = wait;
        self
    }

    /// Sets for how long the queue must not have been empty to be taken for overloaded, rather than
    /// for working off a burst. By default 100 ms, Facebook's value. Above 0, up to an hour.
    #[doc(alias = "codel_interval")]
    pub fn overloaded_after(mut self, after: Duration) -> Self {
        self.overloaded_after = after;
        self
    }

    /// Sets what a rejection says about when to come back. By default 1 ms: at once, or as soon as
    /// the caller's backoff and budget let it. Above 0, up to an hour.
    ///
    /// A call that is refused now has the same chance a moment later, and it is the callers' retry
    /// budgets that protect the service; with 100 ms, the 99th percentile of a service at twice its
    /// capacity goes from 102 to 286 ms, for the same goodput (`cargo bench --bench overload`).
    /// HTTP tells whole seconds, so there it becomes one.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// Makes the chance by which equally important requests are told apart repeatable, for tests
    /// and simulations. By default it is random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the load shed.
    ///
    /// # Errors
    /// If the limit or the queue is 0 or above 1,000,000, or one of the times is 0 or above an
    /// hour.
    pub fn build(self) -> Result<LoadShed<P>, InvalidConfig> {
        let fixed = match &self.limit {
            Choice::Fixed(limit) => Some(*limit),
            Choice::Rule(rule) => rule.is_fixed().then(|| rule.initial()),
        };
        if let Some(limit) = fixed {
            let valid = (1..=MAX_LIMIT).contains(&limit);
            InvalidConfig::check(valid, POLICY, "limit", limit, "from 1 to 1,000,000")?;
        }
        let valid = (1..=MAX_QUEUE).contains(&self.queue);
        InvalidConfig::check(valid, POLICY, "queue", self.queue, "from 1 to 1,000,000")?;
        for (field, given) in [
            ("wait", self.wait),
            ("overloaded_wait", self.overloaded_wait),
            ("overloaded_after", self.overloaded_after),
            ("retry_after", self.retry_after),
        ] {
            let valid = !given.is_zero() && given <= LONGEST;
            InvalidConfig::check(valid, POLICY, field, given, "above 0 and at most an hour")?;
        }
        Ok(self.built())
    }

    /// Builds the load shed of valid settings, such as the defaults are.
    pub(super) fn built(self) -> LoadShed<P> {
        let fixed = |limit: usize| (limit, None, stripes().min((2 * limit).next_power_of_two()));
        let (limit, control, width) = match self.limit {
            Choice::Fixed(limit) => fixed(limit),
            Choice::Rule(rule) if rule.is_fixed() => fixed(rule.initial()),
            Choice::Rule(rule) => (
                rule.initial().clamp(1, MAX_LIMIT),
                Some(LimitControl::new(rule, stripes())),
                stripes(),
            ),
        };
        let discipline = Discipline {
            capacity: self.queue,
            wait: nanos(self.wait),
            overloaded_wait: nanos(self.overloaded_wait),
            overloaded_after: nanos(self.overloaded_after),
        };
        let full = Rejected::new(Kind::Overloaded, self.name.as_str());
        LoadShed(Arc::new(Inner {
            name: self.name.as_str(),
            full: full.with_retry_after(self.retry_after),
            gate: Gate::new(limit, width, discipline),
            control,
            rejected: StripedCounter::default(),
            late: AtomicU64::new(0),
            priority: self.priority,
            threshold: self.ranked.then(|| Box::new(Threshold::new())),
            dice: Dice::new(self.seed),
        }))
    }
}
