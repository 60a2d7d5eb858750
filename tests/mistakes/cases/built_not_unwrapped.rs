//! `.build()` is missing
//~ use the `?` operator

use buttress::{InvalidConfig, RateLimiter};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    let limiter = RateLimiter::new("api", 100, Duration::from_secs(1));
    #[cfg(feature = "cure")]
    let limiter = limiter?;
    let _layer = limiter.layer();
    Ok(())
}
