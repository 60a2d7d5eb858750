//! The stacks that are compared: what callers and relays put before their calls, and what the
//! backend puts before its workers.

use crate::{
    backend::Backend,
    dice,
    net::{Fault, Remote, Request, Wire, classify},
    peers,
    record::{self, Count},
};
use buttress::{
    CircuitBreaker, Criticality, LoadShed, Outcome, Retry, Throttle, Timeout,
    load_shed::{LoadShedBuilder, Prioritize, limit::Adaptive},
    retry::{Backoff, Budget},
    timeout::DeadlineLayer,
};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder, util::BoxCloneSyncService};

pub(crate) const CLIENTS: usize = 100;
const RELAYS: usize = 10;
const ATTEMPT: Duration = Duration::from_millis(500);
const CALL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stack {
    /// Everything, with the backend's parallelism known.
    Full,
    /// Without the callers' throttle.
    Server,
    /// Everything, with a limit that has to be found, beginning here.
    Adaptive(usize),
    /// Attempts with backoff and jitter, without end.
    NaiveRetry,
    /// The same, and a breaker.
    NaiveBreaker,
    /// The same before a backend that sheds.
    NaiveNoBudget,
    /// The backend sheds, retries have a budget, and a breaker takes refusals for failures.
    NaiveBreakerCountsOverload,
    TowerResilience,
    TowerResilienceTuned,
}

impl Stack {
    pub(crate) const ALL: [Self; 10] = [
        Self::Full,
        Self::Server,
        Self::Adaptive(1),
        Self::Adaptive(20),
        Self::NaiveRetry,
        Self::NaiveBreaker,
        Self::NaiveNoBudget,
        Self::NaiveBreakerCountsOverload,
        Self::TowerResilience,
        Self::TowerResilienceTuned,
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Full => "buttress".into(),
            Self::Server => "buttress.server".into(),
            Self::Adaptive(initial) => format!("buttress.adaptive.{initial}"),
            Self::NaiveRetry => "naive.retry".into(),
            Self::NaiveBreaker => "naive.breaker".into(),
            Self::NaiveNoBudget => "naive.no_budget".into(),
            Self::NaiveBreakerCountsOverload => "naive.breaker_counts_overload".into(),
            Self::TowerResilience => "tower_resilience".into(),
            Self::TowerResilienceTuned => "tower_resilience.tuned".into(),
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Full | Self::Server | Self::Adaptive(_))
    }

    /// Builds the system. With `classes`, requests that matter less are to be refused first.
    pub(crate) fn build(
        self,
        backend: &Backend,
        workers: usize,
        classes: bool,
        seed: u64,
    ) -> System {
        let (server, limit) = self.backend(backend, workers, classes, seed);
        let wire = Wire {
            to: server,
            counts: Count::Backend,
            exposed: true,
            deadlines: self.is_ours(),
            // The adaptive limit has the harder case: a caller that gives up frees its permit,
            // and the workers work on. Without any layers there is nothing that could notice, but
            // the memory of who waited would fill the machine's.
            notices: matches!(
                self,
                Self::Adaptive(_) | Self::NaiveRetry | Self::NaiveBreaker
            ),
        };
        let relay = |i| Wire {
            to: self.caller(Tier::Relay, wire.clone(), classes, seed * 1_000 + i),
            counts: Count::Relay,
            exposed: false,
            deadlines: self.is_ours(),
            notices: false,
        };
        let relays = AnyOf((0..RELAYS as u64).map(relay).collect());
        let client = |i| {
            self.caller(
                Tier::Client,
                relays.clone(),
                classes,
                seed * 1_000 + 500 + i,
            )
        };
        System {
            clients: (0..CLIENTS as u64).map(client).collect(),
            limit,
        }
    }

    fn backend(
        self,
        backend: &Backend,
        workers: usize,
        classes: bool,
        seed: u64,
    ) -> (Remote, Box<dyn Fn() -> usize + Send>) {
        let shed = LoadShed::builder("backend").seed(seed);
        let shed = match self {
            Self::Full | Self::Server | Self::NaiveNoBudget | Self::NaiveBreakerCountsOverload => {
                shed.fixed(workers)
            }
            Self::Adaptive(initial) => {
                shed.limit(Adaptive::default().starting_at(initial).expect("valid"))
            }
            Self::NaiveRetry | Self::NaiveBreaker => {
                return (BoxCloneSyncService::new(backend.clone()), Box::new(|| 0));
            }
            Self::TowerResilience | Self::TowerResilienceTuned => {
                let tuned = self == Self::TowerResilienceTuned;
                return (peers::backend(backend, workers, tuned), Box::new(|| 0));
            }
        };
        match classes {
            false => shedding(backend, shed),
            true => shedding(backend, shed.priority(class)),
        }
    }

    fn caller<S>(self, tier: Tier, target: S, classes: bool, seed: u64) -> Remote
    where
        S: Service<Request, Response = (), Error = Fault, Future: Send> + Clone,
        S: Send + Sync + 'static,
    {
        let deadline = DeadlineLayer::within("call", CALL);
        let timeout = Timeout::new("attempt", ATTEMPT).layer();
        let retry = |budget| {
            let retry = Retry::builder("retry").seed(seed).budget(budget);
            let retry = retry.backoff(Backoff::exponential(tier.first_backoff()));
            retry.build().expect("valid").layer().classify(classify)
        };
        let stack = ServiceBuilder::new();
        match self {
            Self::Full | Self::Adaptive(_) => {
                // One for each class, or the refusals of one would hold back the other.
                let throttle = |class: u64| {
                    let throttle = Throttle::builder("throttle").seed(2 * seed + class);
                    throttle.build().expect("valid").layer().classify(classify)
                };
                let target = ByClass {
                    critical: throttle(u64::from(classes)).layer(timeout.layer(target.clone())),
                    other: throttle(0).layer(timeout.layer(target)),
                    classes,
                };
                let stack = stack.layer(deadline).layer(retry(Budget::new()));
                BoxCloneSyncService::new(stack.service(target))
            }
            Self::Server => {
                let stack = stack.layer(deadline).layer(retry(Budget::new()));
                BoxCloneSyncService::new(stack.layer(timeout).service(target))
            }
            Self::NaiveRetry | Self::NaiveNoBudget => {
                let stack = stack.layer(retry(Budget::unlimited()));
                BoxCloneSyncService::new(stack.layer(timeout).service(target))
            }
            Self::NaiveBreaker => {
                let breaker = breaker(seed).layer().classify(everything_counts);
                let stack = stack.layer(retry(Budget::unlimited())).layer(breaker);
                BoxCloneSyncService::new(stack.layer(timeout).service(target))
            }
            Self::NaiveBreakerCountsOverload => {
                let breaker = breaker(seed).layer().classify(everything_counts);
                let stack = stack.layer(deadline).layer(retry(Budget::new()));
                let stack = stack.layer(breaker);
                BoxCloneSyncService::new(stack.layer(timeout).service(target))
            }
            Self::TowerResilience => peers::caller(target, tier, false),
            Self::TowerResilienceTuned => peers::caller(target, tier, true),
        }
    }
}

/// The backend behind this.
fn shedding<P>(
    backend: &Backend,
    shed: LoadShedBuilder<P>,
) -> (Remote, Box<dyn Fn() -> usize + Send>)
where
    P: Prioritize<Request> + Send + Sync + 'static,
{
    let door = {
        let backend = backend.clone();
        move |fault| {
            if let Fault::Rejected(_) = fault {
                backend.refused();
                record::count(Count::Shed);
            }
            fault
        }
    };
    let shed = shed.build().expect("valid");
    let server = ServiceBuilder::new()
        .map_err(door)
        .layer(shed.queued().layer().classify(classify))
        .service(backend.clone());
    (
        BoxCloneSyncService::new(server),
        Box::new(move || shed.snapshot().limit),
    )
}

fn class(req: &Request) -> Criticality {
    match req.critical {
        true => Criticality::Critical,
        false => Criticality::Sheddable,
    }
}

/// What users call, and what the backend's limit is now.
pub(crate) struct System {
    pub(crate) clients: Vec<Remote>,
    pub(crate) limit: Box<dyn Fn() -> usize + Send>,
}

/// The same service twice, each with state of its own.
#[derive(Clone)]
struct ByClass<S> {
    critical: S,
    other: S,
    classes: bool,
}

impl<S: Service<Request>> Service<Request> for ByClass<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match ready!(self.critical.poll_ready(cx)) {
            Ok(()) => self.other.poll_ready(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn call(&mut self, req: Request) -> S::Future {
        match self.classes && req.critical {
            true => self.critical.call(req),
            false => self.other.call(req),
        }
    }
}

fn breaker(seed: u64) -> CircuitBreaker {
    CircuitBreaker::builder("breaker")
        .seed(seed)
        .build()
        .expect("valid")
}

/// The mistake: to be refused is to fail.
fn everything_counts(result: Result<&(), &Fault>) -> Outcome {
    match result {
        Ok(()) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Tier {
    Client,
    Relay,
}

impl Tier {
    pub(crate) fn first_backoff(self) -> Duration {
        Duration::from_millis(match self {
            Self::Client => 50,
            Self::Relay => 20,
        })
    }
}

/// Sends each request to one of these, at random.
#[derive(Clone)]
struct AnyOf(Arc<[Wire]>);

impl Service<Request> for AnyOf {
    type Response = ();
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request) -> Self::Future {
        let wire = &self.0[dice::below(self.0.len())];
        Box::pin(wire.clone().call(req))
    }
}
