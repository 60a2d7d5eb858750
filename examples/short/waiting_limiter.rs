//! A client that keeps to another service's quota: its calls wait for their turn, in order, and
//! those that would wait for too long are refused at once.
//!
//! `cargo run --example waiting_limiter`

use buttress::{Error, RateLimiter};
use futures::future::join_all;
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), buttress::InvalidConfig> {
    // Three calls in any second, and nobody waits for more than two.
    let quota = RateLimiter::new("partner", 3, Duration::from_secs(1))?;
    let waiting = quota.wait_up_to(Duration::from_secs(2));

    #[allow(clippy::disallowed_methods)] // shown to people
    let began = Instant::now();
    let calls = (1..=12).map(|n| {
        let waiting = &waiting;
        async move {
            let call = async || Ok::<_, Error<Infallible>>(began.elapsed().as_secs());
            match waiting.run(call).await {
                Ok(seconds) => println!("{n}: called after {seconds} s"),
                Err(Error::Rejected(rejected)) => {
                    let after = rejected.retry_after().unwrap_or_default();
                    println!("{n}: refused at once, {} s to wait", after.as_secs());
                }
                Err(Error::Service(never)) => match never {},
            }
        }
    });
    join_all(calls).await;
    Ok(())
}
