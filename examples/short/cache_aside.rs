//! A cache in front of anything that can be asked: one load for a crowd, and stale answers while
//! the source is away.
//!
//! `cargo run --example cache_aside`

use buttress::cache::{Cache, Freshness};
use buttress::{Error, Rejected};
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::{io, time::Duration};
use tokio::time::sleep;

type Failure = Error<io::Error>;

static QUERIES: AtomicU32 = AtomicU32::new(0);
static AWAY: AtomicBool = AtomicBool::new(false);

/// A slow database, which may be away.
async fn price() -> Result<u32, Failure> {
    let query = QUERIES.fetch_add(1, Relaxed) + 1;
    sleep(Duration::from_millis(20)).await;
    match AWAY.load(Relaxed) {
        true => Err(Error::Service(io::Error::other("the database is away"))),
        false => Ok(100 + query),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut freshness = Freshness::fresh(Duration::from_millis(50));
    freshness.stale_if_error = Duration::from_secs(3600);
    let prices = Cache::builder("prices").freshness(freshness).build()?;

    let crowd = (0..1_000).map(|_| prices.run("tea", price));
    let answers: Result<Vec<_>, Failure> = join_all(crowd).await.into_iter().collect();
    println!("{} answers", answers?.len());
    println!("{} query", QUERIES.load(Relaxed));

    AWAY.store(true, Relaxed);
    sleep(Duration::from_millis(100)).await;
    let stale = prices.run("tea", price).await?;
    println!("away: {} ({})", stale.value, stale.status);

    // After a write: what was known before it is never the answer again.
    prices.invalidate("tea").await?;
    match prices.run("tea", price).await {
        Ok(price) => println!("{}", price.value),
        Err(Error::Service(error)) => println!("invalidated: {error}"),
        Err(Error::Rejected(rejected)) => println!("invalidated: {}", reason(rejected)),
    }
    Ok(())
}

fn reason(rejected: Rejected) -> String {
    format!("not asked, {rejected}")
}
