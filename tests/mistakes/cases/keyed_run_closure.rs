//! The `run` of a policy that tells requests apart
//~ type mismatch in closure arguments
//~ // over requests: `policy.run_for(&request, op)`

use buttress::{Error, RateLimiter};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = RateLimiter::builder("tenants", 10, Duration::from_secs(1))
        .keyed(|tenant: &String| tenant.clone())
        .build()?;
    let tenant = "acme".to_owned();
    let op = async || Ok::<_, Error<std::io::Error>>(tenant.len());
    #[cfg(not(feature = "cure"))]
    limiter.run(op).await?;
    #[cfg(feature = "cure")]
    limiter.run_for(&tenant, op).await?;
    Ok(())
}
