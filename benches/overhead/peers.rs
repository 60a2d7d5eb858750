//! The crates that do something alike, each in its fastest reasonable form.

use axum::body::Body;
use buttress_benches::row::{Bare, Error, KEYS, Keys, PendingOnce, Row, call, once};
use failsafe::futures::CircuitBreaker as _;
use governor::{Quota, RateLimiter};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{
    Layer, Service, ServiceBuilder,
    retry::{
        Policy,
        budget::{Budget, TpsBudget},
    },
};
use tower_governor::{
    GovernorLayer, governor::GovernorConfigBuilder, key_extractor::GlobalKeyExtractor,
};
use tower_resilience::{
    bulkhead::BulkheadLayer,
    circuitbreaker::CircuitBreakerLayer,
    ratelimiter::{RateLimiterLayer, WindowType},
    retry::RetryLayer,
    timelimiter::TimeLimiterLayer,
};

/// No limit here is ever reached.
const PLENTY: usize = 1 << 30;
const LONG: Duration = Duration::from_secs(5);

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = guards();
    rows.extend(tower_rows());
    rows.extend(tower_resilience_rows());
    rows
}

/// None of these is a service: the numbers are those of the bare decision.
///
/// governor keeps one word for every quota, so its rows stand beside ours for small quotas as well.
/// (In time that is made up, two threads would be refused now and then: who was overtaken between
/// the clock and the decision is too early by what the other has used meanwhile.)
fn guards() -> Vec<Row> {
    let recloser = recloser::AsyncRecloser::from(recloser::Recloser::default());
    let failsafe = failsafe::Config::new().build();
    let direct = Arc::new(RateLimiter::direct(Quota::per_second(NonZeroU32::MAX)));
    let keyed = Arc::new(RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX)));
    for key in 0..KEYS {
        let _ = keyed.check_key(&key);
    }
    vec![
        Row::new("recloser", move || {
            let recloser = recloser.clone();
            move || once(recloser.call(answer()), Result::is_ok)
        }),
        Row::new("failsafe", move || {
            let failsafe = failsafe.clone();
            move || once(failsafe.call(answer()), Result::is_ok)
        }),
        Row::new("governor", move || {
            let direct = direct.clone();
            move || black_box(direct.check()).is_ok().into()
        }),
        Row::new("governor.keyed100k", move || {
            let (keyed, mut keys) = (keyed.clone(), Keys::default());
            move || black_box(keyed.check_key(&keys.draw())).is_ok().into()
        }),
    ]
}

fn answer() -> Ready<Result<u64, Error>> {
    ready(Ok(black_box(1)))
}

fn tower_rows() -> Vec<Row> {
    let retry = tower::retry::RetryLayer::new(Never(Arc::new(TpsBudget::default())));
    let limit = tower::limit::GlobalConcurrencyLimitLayer::new(PLENTY);
    let shed = tower::load_shed::LoadShedLayer::new();
    let timeout = tower::timeout::TimeoutLayer::new(LONG);
    let stack = ServiceBuilder::new()
        .layer(shed.clone())
        .layer(limit.clone())
        .layer(retry.clone())
        .layer(timeout.clone())
        .service(Bare);
    let shed = shed.layer(limit.layer(Bare));
    vec![
        Row::service("tower.timeout", timeout.layer(Bare), Result::is_ok),
        Row::pending_once(
            "tower.timeout.pending",
            timeout.layer(PendingOnce),
            Result::is_ok,
        ),
        Row::service("tower.retry", retry.layer(Bare), Result::is_ok),
        Row::service("tower.concurrency_limit", limit.layer(Bare), Result::is_ok),
        Row::service("tower.load_shed", shed, Result::is_ok),
        Row::service("tower.stack", stack, Result::is_ok),
        tower_governor(),
    ]
}

/// A retry policy with a budget, which nothing ever asks for a retry.
#[derive(Clone)]
struct Never(Arc<TpsBudget>);

impl<E> Policy<u64, u64, E> for Never {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }
    fn clone_request(&mut self, req: &u64) -> Option<u64> {
        Some(*req)
    }
}

/// It takes only axum's requests and responses, which are larger than ours.
fn tower_governor() -> Row {
    #[derive(Clone)]
    struct Http;
    impl Service<http::Request<()>> for Http {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: http::Request<()>) -> Self::Future {
            ready(Ok(http::Response::new(Body::empty())))
        }
    }
    let mut config = GovernorConfigBuilder::default().key_extractor(GlobalKeyExtractor);
    let config = config.period(Duration::from_nanos(1)).burst_size(u32::MAX);
    let layer = GovernorLayer::new(Arc::new(config.finish().expect("a burst and a period")));
    Row::new("tower_governor", move || {
        let mut service = layer.layer(Http);
        move || {
            call(
                &mut service,
                http::Request::new(()),
                |result| matches!(result, Ok(response) if response.status().is_success()),
            )
        }
    })
}

fn tower_resilience_rows() -> Vec<Row> {
    // With its default window, by count: with one by time each call scans all calls in it.
    let breaker = CircuitBreakerLayer::builder()
        .build()
        .expect("a valid breaker");
    let limiter = RateLimiterLayer::builder()
        .limit_for_period(PLENTY)
        .refresh_period(Duration::from_secs(1))
        .window_type(WindowType::SlidingCounter)
        .build()
        .expect("a valid limiter");
    let timeout = TimeLimiterLayer::builder().timeout_duration(LONG).build();
    let stack = ServiceBuilder::new()
        .layer(limiter.clone())
        .layer(breaker.clone())
        .layer(RetryLayer::builder().max_attempts(3).build())
        .layer(timeout.clone())
        .service(Bare);
    let retry = RetryLayer::builder().max_attempts(3).build();
    let bulkhead = BulkheadLayer::builder()
        .max_concurrent_calls(1_000)
        .reject_when_full();
    let bulkhead = bulkhead.build().expect("a valid bulkhead");
    let name = [
        "tower_resilience.circuit_breaker",
        "tower_resilience.rate_limiter",
        "tower_resilience.retry",
        "tower_resilience.time_limiter",
        "tower_resilience.stack",
        "tower_resilience.bulkhead",
    ];
    vec![
        Row::service(name[0], breaker.layer(Bare), Result::is_ok),
        Row::service(name[1], limiter.layer(Bare), Result::is_ok),
        Row::service(name[2], retry.layer(Bare), Result::is_ok),
        Row::service(name[3], timeout.layer(Bare), Result::is_ok),
        Row::service(name[4], stack, Result::is_ok),
        Row::service(name[5], bulkhead.layer(Bare), Result::is_ok),
    ]
}
