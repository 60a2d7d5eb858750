//! The `run` of a policy that tells requests apart
//~ is not a key for requests of type `()`
//~ `policy.run_for(&request, op)` takes one

use buttress::{Error, RateLimiter, http::ClientAddr};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = RateLimiter::builder("clients", 10, Duration::from_secs(1))
        .keyed(ClientAddr::new())
        .build()?;
    let request = http::Request::new(());
    let op = async || Ok::<_, Error<std::io::Error>>(request.version());
    #[cfg(not(feature = "cure"))]
    limiter.run(op).await?;
    #[cfg(feature = "cure")]
    limiter.run_for(&request, op).await?;
    Ok(())
}
