use crate::{
    inner::{E, Req, Touchy, get},
    subject::{Entry, Leaves, Subject},
};
use buttress::{
    circuit_breaker::{CircuitBreaker, CircuitBreakerBuilder, State},
    http::{Http, RespondLayer},
};
use futures::executor::block_on;
use std::{thread::sleep, time::Duration};

/// Whatever its caller drops was not the service's fault.
const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 0,
    panicked: 1,
};

/// Calls that have ended since this was asked for.
pub(super) fn ended(breaker: &CircuitBreaker) -> impl Fn() -> u64 + Send + Sync + use<> {
    let breaker = breaker.clone();
    let ended = move || {
        let snapshot = breaker.snapshot();
        snapshot.successes_total + snapshot.failures_total
    };
    let before = ended();
    move || ended() - before
}

fn entry(builder: CircuitBreakerBuilder) -> Entry<impl Subject> {
    of(&builder.build().unwrap())
}

fn of(breaker: &CircuitBreaker) -> Entry<impl Subject + use<>> {
    let layer = || breaker.layer().classify(Touchy);
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, ended(breaker)).touchy()
}

pub(crate) fn breaker() -> Entry<impl Subject> {
    entry(CircuitBreaker::builder("breaker"))
}

pub(crate) fn breaker_unready_when_open() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::new("breaker");
    let layer = || breaker.layer().classify(Touchy).unready_when_open();
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, ended(&breaker)).touchy()
}

pub(crate) fn breaker_counting_calls() -> Entry<impl Subject> {
    entry(CircuitBreaker::builder("breaker").count_window(50))
}

/// Observed and not obeyed: it has tripped.
pub(crate) fn breaker_observing() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::builder("breaker");
    let breaker = breaker.observe_only(true).consecutive_failures(1).build();
    let breaker = breaker.unwrap();
    assert!(block_on(breaker.run(async || Err::<(), _>(E::Boom(0)))).is_err());
    of(&breaker)
}

/// One success closes it; its probes would not survive being kept by dropped calls.
pub(crate) fn breaker_half_open() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::builder("breaker")
        .consecutive_failures(2)
        .open_for(Duration::from_millis(1))
        .open_jitter(0.0)
        .probes(64)
        .probe_success_ratio(1.0 / 64.0)
        .build()
        .unwrap();
    for _ in 0..2 {
        assert!(block_on(breaker.run(async || Err::<(), _>(E::Boom(0)))).is_err());
    }
    // Nothing to pause: no runtime is there yet. Its millisecond has passed after the first sleep.
    for _ in 0..1_000 {
        if breaker.state() == State::HalfOpen {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    of(&breaker)
}

pub(crate) fn breaker_keyed() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::builder("breaker").keyed(|req: &Req| req.method().clone());
    let breaker = breaker.build().unwrap();
    let layer = || breaker.layer().classify(Touchy);
    let layers = (layer(), layer());
    let count = move || {
        let snapshot = breaker.snapshot_of(&get("/ok"));
        snapshot.map_or(0, |one| one.successes_total + one.failures_total)
    };
    Entry::new(layers, ("/ok", 1), LEAVES, count).touchy()
}

pub(crate) fn breaker_http() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::new("breaker");
    let layer = || breaker.layer().http();
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, ended(&breaker))
}

pub(crate) fn breaker_answering() -> Entry<impl Subject> {
    let breaker = CircuitBreaker::new("breaker");
    let layer = || RespondLayer::new(Http, breaker.layer().http());
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, ended(&breaker))
}
