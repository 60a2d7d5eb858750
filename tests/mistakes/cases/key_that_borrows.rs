//! The key of a policy
//~ lifetime may not live long enough

use buttress::{InvalidConfig, RateLimiter};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    #[cfg(not(feature = "cure"))]
    let key = |tenant: &String| tenant.as_str();
    #[cfg(feature = "cure")]
    let key = |tenant: &String| tenant.clone();
    let _limiter = RateLimiter::builder("tenants", 10, Duration::from_secs(1))
        .keyed(key)
        .build()?;
    Ok(())
}
