use crate::{
    inner::{Inner, Req, Touchy, get},
    subject::{Entry, Leaves, Subject},
};
use buttress::{
    http::{Http, RespondLayer},
    rate_limit::{Algorithm, RateLimiter},
};
use futures::executor::block_on;
use std::time::Duration;
use tower::{Service, ServiceExt};

/// What was admitted may have happened, however it ended.
const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 1,
    panicked: 1,
};
const WINDOW: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3600);
const GCRA: Algorithm = Algorithm::Gcra { burst: 1000 };

/// Takes one of the quota.
pub(super) fn take<L: Subject>(layer: L) -> L {
    let mut service = layer.layer(Inner::default());
    drop(block_on(service.ready()).unwrap().call(get("/ok")));
    layer
}

fn key(req: &Req) -> http::Method {
    req.method().clone()
}

/// An entry for this handle, with layers made like that.
macro_rules! entry {
    ($limiter:expr, $layer:expr) => {{
        let (limiter, layer) = ($limiter, $layer);
        let layers = (layer(&limiter), layer(&limiter));
        let count = move || limiter.snapshot().admitted_total;
        Entry::new(layers, ("/ok", 1), LEAVES, count)
    }};
}

/// The same for one that waits; of `$quota` 1 there is none left.
macro_rules! waiting {
    (|$quota:ident| $limiter:expr, $layer:expr) => {{
        let make = |$quota| $limiter.unwrap().wait_up_to(LONG);
        let (limiter, full, layer) = (make(1000), make(1), $layer);
        let full_layer = take(layer(&full));
        let count = move || full.snapshot().admitted_total;
        entry!(limiter, layer).full(full_layer, count)
    }};
}

/// Counted in leases.
pub(crate) fn limiter() -> Entry<impl Subject> {
    let limiter = RateLimiter::new("limiter", 100_000, WINDOW).unwrap();
    entry!(limiter, |limiter: &RateLimiter| limiter
        .layer()
        .classify(Touchy))
    .touchy()
}

/// Counted in a log.
pub(crate) fn limiter_exact() -> Entry<impl Subject> {
    let limiter = RateLimiter::new("limiter", 1000, WINDOW).unwrap();
    entry!(limiter, |limiter: &RateLimiter| limiter
        .layer()
        .classify(Touchy))
    .touchy()
}

pub(crate) fn limiter_gcra() -> Entry<impl Subject> {
    let limiter = RateLimiter::builder("limiter", 1000, WINDOW).algorithm(GCRA);
    let layer = |limiter: &RateLimiter| limiter.layer().classify(Touchy);
    entry!(limiter.build().unwrap(), layer).touchy()
}

pub(crate) fn limiter_keyed() -> Entry<impl Subject> {
    let limiter = RateLimiter::builder("limiter", 1000, WINDOW).keyed(key);
    let layer = |limiter: &RateLimiter<_>| limiter.layer().classify(Touchy);
    entry!(limiter.build().unwrap(), layer).touchy()
}

pub(crate) fn limiter_keyed_gcra() -> Entry<impl Subject> {
    let limiter = RateLimiter::builder("limiter", 1000, WINDOW).keyed(key);
    let layer = |limiter: &RateLimiter<_>| limiter.layer().classify(Touchy);
    entry!(limiter.algorithm(GCRA).build().unwrap(), layer).touchy()
}

pub(crate) fn limiter_waiting() -> Entry<impl Subject> {
    use buttress::rate_limit::WaitingLimiter;
    let layer = |limiter: &WaitingLimiter| limiter.layer().classify(Touchy);
    waiting!(|quota| RateLimiter::new("limiter", quota, WINDOW), layer).touchy()
}

pub(crate) fn limiter_keyed_waiting() -> Entry<impl Subject> {
    use buttress::rate_limit::WaitingLimiter;
    let layer = |limiter: &WaitingLimiter<_>| limiter.layer().classify(Touchy);
    waiting!(
        |quota| RateLimiter::builder("limiter", quota, WINDOW)
            .keyed(key)
            .build(),
        layer
    )
    .touchy()
}

pub(crate) fn limiter_waiting_http() -> Entry<impl Subject> {
    use buttress::rate_limit::WaitingLimiter;
    let layer = |limiter: &WaitingLimiter| limiter.layer().http();
    waiting!(|quota| RateLimiter::new("limiter", quota, WINDOW), layer)
}

pub(crate) fn limiter_http() -> Entry<impl Subject> {
    let limiter = RateLimiter::new("limiter", 100_000, WINDOW).unwrap();
    entry!(limiter, |limiter: &RateLimiter| limiter.layer().http())
}

pub(crate) fn limiter_answering() -> Entry<impl Subject> {
    let limiter = RateLimiter::new("limiter", 100_000, WINDOW).unwrap();
    entry!(limiter, |limiter: &RateLimiter| RespondLayer::new(
        Http,
        limiter.layer().http()
    ))
}
