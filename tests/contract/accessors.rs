//! Every service lets the one that it wraps out again.

use buttress::{
    CircuitBreaker, ErrorsAsFailures, LoadShed, RateLimiter, Retry, Timeout,
    cache::Cache,
    http::{
        CriticalityHeaderClientLayer, CriticalityHeaderLayer, DeadlineHeaderClientLayer,
        DeadlineHeaderLayer, Http, RateLimitHeadersLayer, RespondLayer,
    },
    timeout::DeadlineLayer,
};
use std::time::Duration;
use tower::Layer;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Inner(u32);

macro_rules! lets_out {
    ($($layer:expr),+ $(,)?) => {
        $({
            let mut service = $layer.layer(Inner(1));
            service.get_mut().0 += 1;
            assert_eq!(service.get_ref(), &Inner(2));
            assert_eq!(service.into_inner(), Inner(2));
        })+
    };
}

#[test]
fn every_service_lets_the_one_that_it_wraps_out() {
    let limiter = RateLimiter::new("api", 1, Duration::from_secs(1)).unwrap();
    let shed = LoadShed::new("api");
    let cache: Cache<u32> = Cache::builder("api").build().unwrap();
    lets_out!(
        limiter.layer(),
        CircuitBreaker::new("api").layer().http(),
        CircuitBreaker::new("api")
            .layer()
            .http()
            .unready_when_open(),
        shed.queued().layer().grpc(),
        shed.backpressure().layer().classify(ErrorsAsFailures),
        Retry::new("api").layer().http(),
        Timeout::new("api", Duration::from_secs(1)).layer(),
        Timeout::new("api", Duration::from_secs(1)).layer().http(),
        DeadlineLayer::within("api", Duration::from_secs(1)),
        DeadlineLayer::within("api", Duration::from_secs(1)).grpc(),
        DeadlineHeaderLayer::at_most("api", Duration::from_secs(1)),
        DeadlineHeaderClientLayer::new("api"),
        CriticalityHeaderLayer::default(),
        CriticalityHeaderClientLayer,
        RateLimitHeadersLayer::new(limiter),
        cache.layer(|n: &u32| *n),
    );
    let answering = RespondLayer::new(Http, tower::layer::util::Identity::new());
    assert_eq!(
        answering.layer(Inner(3)).into_inner().into_inner(),
        Inner(3)
    );
}
