//! The nearest that tower-resilience has to offer.
//!
//! As its documentation composes it: callers with a timeout and retries, the service with a
//! bulkhead. Its circuit breaker and its adaptive limiter read the machine's clock, which stands
//! still in virtual time, so they cannot take part; as `naive.breaker_counts_overload` shows, a
//! breaker does not make it better. `tuned` is more than the documentation asks for: the wait for
//! the bulkhead is bounded, and the retries have a budget.

use crate::{
    backend::Backend,
    net::{Fault, Remote, Request},
    record::{self, Count},
    stacks::Tier,
};
use std::time::Duration;
use tower::{Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_resilience::{
    bulkhead::{BulkheadLayer, BulkheadServiceError},
    retry::{RetryBudgetBuilder, RetryLayer},
    timelimiter::{TimeLimiterError, TimeLimiterLayer},
};

pub(crate) fn backend(backend: &Backend, workers: usize, tuned: bool) -> Remote {
    let door = {
        let backend = backend.clone();
        move |error| match error {
            BulkheadServiceError::Inner(fault) => fault,
            BulkheadServiceError::Bulkhead(_) => {
                backend.refused();
                record::count(Count::Shed);
                Fault::Full(None)
            }
        }
    };
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(workers);
    let bulkhead = match tuned {
        true => bulkhead.max_wait_duration(Duration::from_millis(100)),
        false => bulkhead,
    };
    let stack = ServiceBuilder::new().map_err(door);
    let stack = stack.layer(bulkhead.build().expect("valid"));
    BoxCloneSyncService::new(stack.service(backend.clone()))
}

pub(crate) fn caller<S>(target: S, tier: Tier, tuned: bool) -> Remote
where
    S: Service<Request, Response = (), Error = Fault, Future: Send> + Clone,
    S: Send + Sync + 'static,
{
    let retry = RetryLayer::<Request, (), Fault>::builder()
        .max_attempts(3)
        .exponential_backoff(tier.first_backoff());
    let retry = match tuned {
        true => retry.budget(RetryBudgetBuilder::new().aimd().build().expect("valid")),
        false => retry,
    };
    let timeout = TimeLimiterLayer::builder().timeout_duration(Duration::from_millis(500));
    let timed_out = |error| match error {
        TimeLimiterError::Inner(fault) => fault,
        _ => Fault::Failed,
    };
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(retry.build())
            .map_err(timed_out)
            .layer(timeout.build())
            .service(target),
    )
}
