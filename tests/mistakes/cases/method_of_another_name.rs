//! A method of another name
//~ no method named `key` found
//~ there is a method `keyed` with a similar name

use buttress::{InvalidConfig, RateLimiter, http::ClientAddr};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    let limiter = RateLimiter::builder("clients", 10, Duration::from_secs(1));
    #[cfg(not(feature = "cure"))]
    let limiter = limiter.key(ClientAddr::new());
    #[cfg(feature = "cure")]
    let limiter = limiter.keyed(ClientAddr::new());
    let _limiter = limiter.build()?;
    Ok(())
}
