//! This crate's layers.

use crate::made_up_time::{AtMadeUpTime, MadeUpTime};
use buttress::{
    CircuitBreaker, ErrorsAsFailures, GuardLayer, InvalidConfig, Kind, LoadShed, RateLimiter,
    Retry, Throttle, Timeout,
};
use buttress_benches::row::{Bare, Error, KEYS, PendingOnce, Row};
use std::time::Duration;
use tower::{Layer, Service, ServiceBuilder};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Calls at 95 % of 100 per second: the rest is room for a thread that was overtaken between the
/// clock and the limiter.
pub(crate) fn small_time() -> MadeUpTime {
    MadeUpTime::new(95, 100, SECOND)
}

/// Small quotas, in made-up time.
pub(crate) fn small_rows() -> Vec<Row> {
    make_small().expect("valid policies")
}

pub(crate) fn rows() -> Vec<Row> {
    make().expect("valid policies")
}

fn make() -> Result<Vec<Row>, InvalidConfig> {
    let breaker = CircuitBreaker::new("breaker");
    let open = CircuitBreaker::new("open");
    open.force_open();
    let limiter = RateLimiter::new("limiter", u32::MAX, SECOND)?;
    // A quota that people set per client, which these few calls per key do not reach.
    let keyed = RateLimiter::builder("keyed", 10_000, MINUTE)
        .keyed(|key: &u64| *key)
        .max_keys(2 * KEYS as usize)
        .build()?;
    let mut filled = keyed.layer().classify(ErrorsAsFailures).layer(Bare);
    for key in 0..KEYS {
        drop(filled.call(key));
    }
    let mut rows = overload()?;
    let denied = RateLimiter::new("denied", 1, Duration::from_secs(3600))?;
    drop(
        denied
            .layer()
            .classify(ErrorsAsFailures)
            .layer(Bare)
            .call(0),
    );
    let retry = Retry::new("retry");
    let timeout = Timeout::new("timeout", 5 * SECOND);
    let both = GuardLayer::new((limiter.clone(), breaker.clone())).classify(ErrorsAsFailures);
    let stack = ServiceBuilder::new()
        .layer(both.clone())
        .layer(retry.layer().classify(ErrorsAsFailures))
        .layer(timeout.layer())
        .service(Bare);
    let breaking = breaker.layer().classify(ErrorsAsFailures).layer(Bare);
    let opened = open.layer().classify(ErrorsAsFailures).layer(Bare);
    rows.extend([
        Row::service("buttress.circuit_breaker", breaking, Result::is_ok),
        Row::service("buttress.circuit_breaker.open", opened, |result| {
            refused(result, Kind::CircuitOpen)
        }),
        Row::service(
            "buttress.rate_limit",
            limiter.layer().layer(Bare),
            Result::is_ok,
        ),
        Row::service("buttress.rate_limit.keyed100k", filled, Result::is_ok),
        Row::service(
            "buttress.rate_limit.denied",
            denied.layer().classify(ErrorsAsFailures).layer(Bare),
            |result| refused(result, Kind::RateLimited),
        ),
        Row::service("buttress.limiter_breaker", both.layer(Bare), Result::is_ok),
        Row::service(
            "buttress.timeout",
            timeout.layer().layer(Bare),
            Result::is_ok,
        ),
        // A refusal, and what two layers further out make of it.
        Row::service(
            "buttress.rate_limit.denied.seen_twice",
            ServiceBuilder::new()
                .layer(breaker.layer().classify(ErrorsAsFailures))
                .layer(retry.layer().classify(ErrorsAsFailures))
                .layer(denied.layer().classify(ErrorsAsFailures))
                .service(Bare),
            |result| refused(result, Kind::RateLimited),
        ),
        // A call that is dropped after its first poll.
        Row::cancelled(
            "buttress.circuit_breaker.cancelled",
            breaker
                .layer()
                .classify(ErrorsAsFailures)
                .layer(PendingOnce),
        ),
        Row::pending_once(
            "buttress.timeout.pending",
            timeout.layer().layer(PendingOnce),
            Result::is_ok,
        ),
        Row::service(
            "buttress.retry",
            retry.layer().classify(ErrorsAsFailures).layer(Bare),
            Result::is_ok,
        ),
        Row::service("buttress.stack", stack.clone(), Result::is_ok),
        Row::cloned("buttress.stack.cloned", stack, Result::is_ok),
    ]);
    Ok(rows)
}

/// The quotas that people set, in time that is made up; every call is admitted.
///
/// `small` is an exact log that is full, as at 100 per second on a busy day: every call lets go one
/// admission and adds another, under a lock. With two threads it is what they cost each other if
/// they do nothing else, at ten thousand times the rate at which such a quota admits.
///
/// `keyed.small` is 100 per minute for each of 100,000 keys that call 25 times a minute: seldom
/// twice in a sub-window, so that nearly every call opens the key's counters, in a cache line that
/// nobody has touched for long. (In `keyed100k` keys call so often that their leases last.)
fn make_small() -> Result<Vec<Row>, InvalidConfig> {
    let limiter = RateLimiter::new("small", 100, SECOND)?;
    let small = GuardLayer::new(AtMadeUpTime(limiter, small_time()));
    let limiter = RateLimiter::builder("keyed", 100, MINUTE)
        .keyed(|key: &u64| *key)
        .max_keys(2 * KEYS as usize)
        .build()?;
    // A quarter of the quota, because keys drawn at random come unevenly.
    let time = MadeUpTime::new(25, 100 * KEYS, MINUTE);
    let keyed = GuardLayer::new(AtMadeUpTime(limiter, time));
    let mut filled = keyed.classify(ErrorsAsFailures).layer(Bare);
    for key in 0..KEYS {
        drop(filled.call(key));
    }
    Ok(vec![
        Row::service(
            "buttress.rate_limit.small",
            small.classify(ErrorsAsFailures).layer(Bare),
            Result::is_ok,
        ),
        Row::service("buttress.rate_limit.keyed.small", filled, Result::is_ok),
    ])
}

fn overload() -> Result<Vec<Row>, InvalidConfig> {
    // With capacity to spare, as most of the time.
    let fixed = LoadShed::builder("fixed").fixed(1_000).build()?;
    let adaptive = LoadShed::new("adaptive");
    let full = LoadShed::builder("full").fixed(1).build()?;
    let throttle = Throttle::new("throttle");
    Ok(vec![
        Row::service(
            "buttress.load_shed",
            fixed.layer().classify(ErrorsAsFailures).layer(Bare),
            Result::is_ok,
        ),
        Row::service(
            "buttress.load_shed.queued",
            fixed
                .queued()
                .layer()
                .classify(ErrorsAsFailures)
                .layer(Bare),
            Result::is_ok,
        ),
        Row::service(
            "buttress.load_shed.adaptive",
            adaptive.layer().classify(ErrorsAsFailures).layer(Bare),
            Result::is_ok,
        ),
        Row::service("buttress.load_shed.denied", occupied(&full), |result| {
            refused(result, Kind::Overloaded)
        }),
        Row::service(
            "buttress.throttle",
            throttle.layer().classify(ErrorsAsFailures).layer(Bare),
            Result::is_ok,
        ),
    ])
}

/// A service behind this load shed, whose only permit never comes back.
fn occupied(full: &LoadShed) -> impl Service<u64, Response = u64, Error = Error> + Clone + use<> {
    std::mem::forget(full.layer().classify(ErrorsAsFailures).layer(Bare).call(0));
    full.layer().classify(ErrorsAsFailures).layer(Bare)
}

fn refused(result: &Result<u64, Error>, kind: Kind) -> bool {
    matches!(result, Err(Error::Rejected(rejected)) if rejected.kind() == kind)
}
