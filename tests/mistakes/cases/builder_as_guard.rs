//! `.build()` is missing
//~ is not a guard
//~ a builder becomes a guard with `.build()`

use buttress::{CircuitBreaker, GuardLayer, InvalidConfig, RateLimiter};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    let limiter = RateLimiter::builder("api", 10, Duration::from_secs(1));
    #[cfg(feature = "cure")]
    let limiter = limiter.build()?;
    let _layer = GuardLayer::new((limiter, CircuitBreaker::new("api"))).http();
    Ok(())
}
