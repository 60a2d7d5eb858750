//! Makes calls of one kind, so that `scripts/instructions` can have their instructions counted.
//!
//! `instructions` lists the kinds; `instructions NAME CALLS` makes so many calls of one. Whatever is
//! done once, such as starting and filling a table, is the same for any number of calls: the
//! difference of two runs is what the calls took.
#![allow(missing_docs)]
#![allow(clippy::expect_used)]

use buttress::{
    CircuitBreaker, ErrorsAsFailures, GuardLayer, InvalidConfig, LoadShed, Now, RateLimiter, Retry,
    Throttle, Timeout,
    cache::{Cache, Freshness, MemoryStore},
    guard::{Admission, Guard},
};
use buttress_benches::{
    options::runtime,
    row::{self, Bare, Error, PendingOnce, Row},
};
use std::{env, process::ExitCode, time::Duration};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MINUTE: Duration = Duration::from_secs(60);

/// Makes what is called: only that of the chosen kind, because filling a table takes instructions.
type Make = fn() -> Result<Row, InvalidConfig>;

const KINDS: [(&str, Make); 15] = [
    ("bare", || Ok(service(Bare))),
    ("circuit_breaker", || {
        let breaker = CircuitBreaker::new("breaker");
        Ok(service(
            breaker.layer().classify(ErrorsAsFailures).layer(Bare),
        ))
    }),
    ("circuit_breaker.open", || {
        let breaker = CircuitBreaker::new("open");
        breaker.force_open();
        let layer = breaker.layer().classify(ErrorsAsFailures);
        Ok(refused(layer.layer(other())))
    }),
    ("rate_limit", || {
        let limiter = RateLimiter::new("limiter", u32::MAX, MINUTE)?;
        Ok(service(limiter.layer().layer(Bare)))
    }),
    ("rate_limit.denied", || {
        let denied = RateLimiter::new("denied", 1, MINUTE)?;
        let mut service = denied.layer().layer(other());
        // The quota is one call, and this is it.
        let _ = row::call(&mut service, 7, Result::is_ok);
        Ok(refused(service))
    }),
    ("rate_limit.queued", || {
        let queued = RateLimiter::new("queued", 1, MINUTE)?;
        let mut service = queued.layer().layer(other());
        let _ = row::call(&mut service, 7, Result::is_ok);
        // Whoever waits: refusals do not overtake.
        match queued.wait_up_to(MINUTE).admit(&7_u64, &Now::lazy()) {
            Admission::Wait(_) => Ok(refused(service)),
            _ => unreachable!("the quota is used up"),
        }
    }),
    ("rate_limit.keyed", || {
        let keyed = RateLimiter::builder("keyed", 10_000, MINUTE).keyed(|key: &u64| *key % 1_000);
        Ok(service(keyed.build()?.layer().layer(Bare)))
    }),
    ("load_shed.fixed", || {
        let fixed = LoadShed::builder("fixed").fixed(1_000).build()?;
        Ok(service(
            fixed.layer().classify(ErrorsAsFailures).layer(Bare),
        ))
    }),
    ("load_shed.adaptive", || {
        let adaptive = LoadShed::new("adaptive");
        Ok(service(
            adaptive.layer().classify(ErrorsAsFailures).layer(Bare),
        ))
    }),
    ("throttle", || {
        let throttle = Throttle::new("throttle");
        Ok(service(
            throttle.layer().classify(ErrorsAsFailures).layer(Bare),
        ))
    }),
    ("timeout", || {
        Ok(service(Timeout::new("timeout", MINUTE).layer().layer(Bare)))
    }),
    ("timeout.pending", || {
        let timeout = Timeout::new("timeout", MINUTE);
        let service = timeout.layer().layer(PendingOnce);
        Ok(Row::pending_once("", service, Result::is_ok))
    }),
    ("retry", || {
        Ok(service(
            Retry::new("retry")
                .layer()
                .classify(ErrorsAsFailures)
                .layer(Bare),
        ))
    }),
    ("stack", || {
        let limiter = RateLimiter::new("limiter", u32::MAX, MINUTE)?;
        let guards = (limiter, CircuitBreaker::new("breaker"));
        let stack = ServiceBuilder::new()
            .layer(GuardLayer::new(guards).classify(ErrorsAsFailures))
            .layer(Retry::new("retry").layer().classify(ErrorsAsFailures))
            .layer(Timeout::new("timeout", MINUTE).layer());
        Ok(service(stack.service(Bare)))
    }),
    ("cache.hit", || {
        let cache = Cache::builder("items").freshness(Freshness::fresh(60 * MINUTE));
        let cache = cache.store(MemoryStore::entries(1_000)?).build()?;
        let loads = service_fn(|key: u64| async move { Ok::<_, Error>(key) });
        let mut service = cache.layer(|_: &u64| Some(7)).layer(loads);
        // The first call loads; it may be waited for.
        let _ = row::call(&mut service, 7, Result::is_ok);
        Ok(Row::service("", service, Result::is_ok))
    }),
];

/// A service whose every call succeeds.
fn service<S>(service: S) -> Row
where
    S: Service<u64, Response = u64, Error = Error> + Clone + Send + 'static,
{
    Row::service("", service, Result::is_ok)
}

/// What is not called. A type of its own, or the compiler would make one code for the rows whose
/// calls are refused and for those whose calls are admitted, and another than for these alone.
fn other() -> impl Service<u64, Response = u64, Error = Error, Future: Send> + Clone + Send {
    Bare.map_err(|error| error)
}

/// A service whose every call is refused.
fn refused<S>(service: S) -> Row
where
    S: Service<u64, Response = u64, Error = Error> + Clone + Send + 'static,
{
    Row::service("", service, |result| result.is_err())
}

fn main() -> ExitCode {
    // Cargo's own argument.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [name, calls] = &args[..] else {
        KINDS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let kind = KINDS.iter().find(|(kind, _)| kind == name);
    let (Some((_, make)), Ok(calls)) = (kind, calls.parse()) else {
        eprintln!("no such kind, or no number: {name} {calls}");
        return ExitCode::from(2);
    };
    // The timers want a runtime around them; its worker sleeps.
    let runtime = runtime().expect("a runtime");
    let _entered = runtime.enter();
    let done = make().expect("valid policies").job()(calls);
    if done.made != calls || done.wrong > 0 {
        eprintln!(
            "{name}: {} of {calls} calls, {} wrong",
            done.made, done.wrong
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
