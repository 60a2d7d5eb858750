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

/// The settings of a [`LoadShed`], begun by [`LoadShed::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Debug)]
#[must_use]
pub struct LoadShedBuilder<P = Equal> {
    name: Name,
    limit: Choice,
    long_lived: usize,
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

pub(super) const POLICY: &str = "load shed";
const MAX_QUEUE: usize = 1_000_000;
const LONGEST: Duration = Duration::from_secs(3_600);

impl LoadShedBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            limit: Choice::Rule(Box::new(Adaptive::default())),
            long_lived: 10_000,
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

    /// Sets how much a request matters, by a closure that returns a
    /// [`Criticality`](crate::Criticality), or a [`Priority`](super::Priority) with a user. By
    /// default all requests matter equally.
    ///
    /// The closure is called only while, and shortly after, no permit is free, and only by
    /// [`queued`](LoadShed::queued). Then as many of the less important requests are refused as
    /// have to be. In the queue, more important requests go first, and take the places of less
    /// important ones when it is full. The other modes keep no requests to choose from, and ignore
    /// priorities.
    pub fn priority<P>(self, priority: P) -> LoadShedBuilder<P> {
        LoadShedBuilder {
            name: self.name,
            limit: self.limit,
            long_lived: self.long_lived,
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
    /// Sets a limit that does not change: how many calls may be in flight, 1 to 1,000,000.
    ///
    /// It suits a service whose parallelism is known, such as its number of workers or connections.
    /// Then calls wait here and not inside the service, for as long as the settings say.
    #[doc(alias("max_concurrent_calls", "concurrency_limit", "semaphore"))]
    pub fn fixed(mut self, limit: usize) -> Self {
        self.limit = Choice::Fixed(limit);
        self
    }

    /// Sets the rule by which the limit changes. By default [`Adaptive`], because what a service
    /// can do at once is rarely known and seldom stays the same.
    #[doc(alias("adaptive_concurrency", "aimd", "vegas", "gradient"))]
    pub fn limit(mut self, rule: impl Limit) -> Self {
        self.limit = Choice::Rule(Box::new(rule));
        self
    }

    /// Sets how many [long-lived calls](super#long-lived-calls) there may be beside the limit, up
    /// to 1,000,000. By default 10,000: more than most servers have of streams, and a bound on what
    /// a service that hangs can make them hold. Those above it count as all others do.
    ///
    /// A [fixed](Self::fixed) limit is what it says, and counts them all.
    #[doc(alias("streams", "sse", "websocket"))]
    pub fn long_lived(mut self, most: usize) -> Self {
        self.long_lived = most;
        self
    }

    /// Sets how many requests may wait in the queue, 1 to 1,000,000. By default 1,000: the time
    /// they may wait is the bound that matters, and this one is for memory (some 100 bytes for each
    /// request, beside the request itself).
    ///
    /// Only [`queued`](LoadShed::queued) uses it.
    #[doc(alias("max_queue", "backlog"))]
    pub fn queue(mut self, capacity: usize) -> Self {
        self.queue = capacity;
        self
    }

    /// Sets how long a request may wait while the queue is not overloaded. Above 0, up to an hour.
    ///
    /// By default 100 ms, which outlasts a burst, and is Facebook's value for all its services
    /// ("Fail at Scale", ACM Queue 2015).
    #[doc(alias = "max_wait_duration")]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a request may wait while the queue is overloaded: see
    /// [`overloaded_after`](Self::overloaded_after). Above 0, up to an hour.
    ///
    /// By default 20 ms, the best of those simulated (5 ms to 100 ms). A shorter wait leaves
    /// workers idle between requests, a longer one keeps requests waiting for nothing.
    #[doc(alias("codel_target", "target_delay"))]
    pub fn overloaded_wait(mut self, wait: Duration) -> Self {
        self.overloaded_wait = wait;
        self
    }

    /// Sets how long the queue must have gone without being empty to count as overloaded, rather
    /// than as working off a burst. By default 100 ms, Facebook's value. Above 0, up to an hour.
    #[doc(alias = "codel_interval")]
    pub fn overloaded_after(mut self, after: Duration) -> Self {
        self.overloaded_after = after;
        self
    }

    /// Sets the time after which, according to a rejection, the caller may come back. Above 0, up
    /// to an hour.
    ///
    /// By default 1 ms, which leaves it to the caller's backoff and retry budget. A call that is
    /// refused now has the same chance a moment later, and it is the callers' retry budgets that
    /// protect the service. With 100 ms, the 99th percentile latency of a service at twice its
    /// capacity goes from 102 to 286 ms, for the same goodput (`cargo bench --bench overload`).
    /// HTTP tells whole seconds, so there it becomes one second.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// Makes the random choice between equally important requests repeatable, for tests and
    /// simulations. By default it is random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the load shed.
    ///
    /// # Errors
    /// If the limit or the queue is 0 or above 1,000,000, or the most long-lived calls are above
    /// that, or one of the times is 0 or above an hour.
    pub fn build(self) -> Result<LoadShed<P>, InvalidConfig> {
        let checked = self.check();
        checked.map_err(|invalid| invalid.named(self.name))?;
        Ok(self.built())
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let fixed = match &self.limit {
            Choice::Fixed(limit) => Some(*limit),
            Choice::Rule(rule) => rule.is_fixed().then(|| rule.initial()),
        };
        if let Some(limit) = fixed {
            let valid = (1..=MAX_LIMIT).contains(&limit);
            InvalidConfig::check(valid, POLICY, "limit", limit, "from 1 to 1,000,000")?;
        }
        let (field, most) = ("long_lived", self.long_lived);
        InvalidConfig::check(most <= MAX_LIMIT, POLICY, field, most, "at most 1,000,000")?;
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
        Ok(())
    }

    /// Builds the load shed of valid settings, such as the defaults are.
    pub(super) fn built(self) -> LoadShed<P> {
        let fixed = |limit: usize| (limit, None, stripes().min((2 * limit).next_power_of_two()));
        let (limit, control, width) = match self.limit {
            Choice::Fixed(limit) => fixed(limit),
            Choice::Rule(rule) if rule.is_fixed() => fixed(rule.initial()),
            Choice::Rule(rule) => {
                let (limit, stripes) = (rule.initial().clamp(1, MAX_LIMIT), stripes());
                let control = LimitControl::new(rule, limit, self.long_lived, stripes);
                (limit, Some(control), stripes)
            }
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
