//! Several layers in one.

use super::{circuit_breaker::ended, load_shed, rate_limit::take, retry};
use crate::{
    inner::Touchy,
    subject::{Entry, Leaves, Subject},
};
use buttress::guard::OnResponse;
use buttress::{
    CircuitBreaker, ErrorsAsFailures, GuardLayer, LoadShed, RateLimiter, Retry, Timeout, WaitLayer,
    http::{Http, RespondLayer},
};
use std::time::Duration;
use tower::ServiceBuilder;

const WINDOW: Duration = Duration::from_secs(60);

/// Thousands for the breaker, ones for the limiter.
const LEAVES: Leaves = Leaves {
    success: 1001,
    error: 1001,
    cancelled: 1,
    panicked: 1001,
};

fn count(limiter: &RateLimiter, breaker: &CircuitBreaker) -> impl Fn() -> u64 + use<> {
    let (limiter, ended) = (limiter.clone(), ended(breaker));
    move || limiter.snapshot().admitted_total + 1000 * ended()
}

pub(crate) fn limiter_and_breaker() -> Entry<impl Subject> {
    let limiter = RateLimiter::new("limiter", 100_000, WINDOW).unwrap();
    let breaker = CircuitBreaker::new("breaker");
    let layer = || GuardLayer::new((limiter.clone(), breaker.clone())).classify(Touchy);
    let count = count(&limiter, &breaker);
    Entry::new((layer(), layer()), ("/ok", 1001), LEAVES, count).touchy()
}

/// While a call waits behind the breaker, it is not in the breaker's way.
pub(crate) fn waiting_limiter_and_breaker() -> Entry<impl Subject> {
    let make = |quota| {
        let limiter = RateLimiter::new("limiter", quota, WINDOW).unwrap();
        (limiter, CircuitBreaker::new("breaker"))
    };
    let layer = |(limiter, breaker): &(RateLimiter, CircuitBreaker)| {
        let waiting = limiter.wait_up_to(60 * WINDOW);
        WaitLayer::new((breaker.clone(), waiting)).classify(Touchy)
    };
    let (both, full) = (make(1000), make(1));
    let full_layer = take(layer(&full));
    let layers = (layer(&both), layer(&both));
    Entry::new(layers, ("/ok", 1001), LEAVES, count(&both.0, &both.1))
        .touchy()
        .full(full_layer, count(&full.0, &full.1))
}

/// A breaker that does not count what the limit refuses, and a limit whose permit outlasts neither.
struct Shed(LoadShed, CircuitBreaker);

impl Shed {
    fn new(limit: usize) -> Self {
        let shed = LoadShed::builder("shed").fixed(limit).build().unwrap();
        Self(shed, CircuitBreaker::new("breaker"))
    }

    fn count(&self) -> impl Fn() -> u64 + use<> {
        let (admitted, ended) = (load_shed::count(&self.0), ended(&self.1));
        move || admitted() + 1000 * ended()
    }
}

pub(crate) fn shed_and_breaker() -> Entry<impl Subject> {
    let both = Shed::new(64);
    let layer = || GuardLayer::new((both.1.clone(), both.0.clone())).classify(Touchy);
    Entry::new((layer(), layer()), ("/ok", 1001), LEAVES, both.count()).touchy()
}

pub(crate) fn queued_shed_and_breaker() -> Entry<impl Subject> {
    let layer = |Shed(shed, breaker): &Shed| {
        WaitLayer::new((breaker.clone(), shed.queued())).classify(Touchy)
    };
    let (both, full) = (Shed::new(64), Shed::new(1));
    let free = load_shed::occupy(&full.0);
    Entry::new(
        (layer(&both), layer(&both)),
        ("/ok", 1001),
        LEAVES,
        both.count(),
    )
    .touchy()
    .full_until(layer(&full), full.count(), free)
}

/// As in a gateway: limit, breaker, retry, and a timeout for each attempt.
struct Four {
    limiter: RateLimiter,
    breaker: CircuitBreaker,
    retry: Retry,
    timeout: Timeout,
}

impl Four {
    fn new() -> Self {
        Self {
            limiter: RateLimiter::new("limiter", 100_000, WINDOW).unwrap(),
            breaker: CircuitBreaker::new("breaker"),
            retry: retry::handle(),
            timeout: Timeout::new("timeout", WINDOW),
        }
    }

    fn guards(&self) -> GuardLayer<(RateLimiter, CircuitBreaker), OnResponse> {
        GuardLayer::new((self.limiter.clone(), self.breaker.clone())).classify(ErrorsAsFailures)
    }

    fn entry<L: Subject>(self, layer: impl Fn(&Self) -> L) -> Entry<L> {
        let leaves = Leaves {
            error: 2_001_001,
            ..LEAVES
        };
        let layers = (layer(&self), layer(&self));
        let guards = count(&self.limiter, &self.breaker);
        let count = move || guards() + 1_000_000 * self.retry.snapshot().retries_total;
        Entry::new(layers, ("/ok", 1001), leaves, count)
    }
}

pub(crate) fn all_four() -> Entry<impl Subject> {
    let layer = |four: &Four| {
        ServiceBuilder::new()
            .layer(four.guards().classify(Touchy))
            .layer(four.retry.layer().classify(ErrorsAsFailures))
            .layer(four.timeout.layer())
    };
    Four::new().entry(layer).touchy()
}

pub(crate) fn all_four_answering() -> Entry<impl Subject> {
    Four::new().entry(|four: &Four| {
        let stack = ServiceBuilder::new()
            .layer(four.guards().http())
            .layer(four.retry.layer().http())
            .layer(four.timeout.layer());
        RespondLayer::new(Http, stack)
    })
}
