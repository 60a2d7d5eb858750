//! A guard that is not one
//~ Timeout` is not a guard
//~ and have `.layer()` and `.run(..)` of their own

use buttress::{CircuitBreaker, Error, ErrorsAsFailures, GuardLayer, Timeout};
use std::time::Duration;
use tower::{ServiceBuilder, service_fn};

fn main() {
    let breaker = CircuitBreaker::new("db");
    let timeout = Timeout::new("db", Duration::from_secs(1));
    #[cfg(not(feature = "cure"))]
    let layers = GuardLayer::new((breaker, timeout)).classify(ErrorsAsFailures);
    #[cfg(feature = "cure")]
    let layers = (
        GuardLayer::new(breaker).classify(ErrorsAsFailures),
        timeout.layer(),
    );
    let service = service_fn(async |n: u32| Ok::<_, Error<std::io::Error>>(n));
    let _stack = ServiceBuilder::new().layer(layers).service(service);
}
