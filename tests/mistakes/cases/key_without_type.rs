//! The key of a policy
//~ type annotations needed
//~ consider giving this closure parameter an explicit type

use buttress::{InvalidConfig, RateLimiter};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    #[cfg(not(feature = "cure"))]
    let key = |request| request.uri().path().to_owned();
    #[cfg(feature = "cure")]
    let key = |request: &http::Request<String>| request.uri().path().to_owned();
    let _limiter = RateLimiter::builder("paths", 10, Duration::from_secs(1))
        .keyed(key)
        .build()?;
    Ok(())
}
