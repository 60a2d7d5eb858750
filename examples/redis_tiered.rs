//! A cache in memory over Redis: instances share what they load, and an invalidation reaches all.
//!
//! `cargo run --example redis_tiered` boots a Redis for itself, or uses the one at `REDIS_URL`.

use buttress::cache::{Cache, Json};
use buttress::redis::{RedisStore, Tiered};
use buttress::{Error, Rejected};
use example_support::servers::Redis;
use std::{convert::Infallible, env, time::Duration};
use tokio::time::sleep;

type Instance = Cache<String, Tiered<String>>;

/// One of several processes, each with a memory of its own.
fn instance(url: &str) -> Result<Instance, buttress::InvalidConfig> {
    let redis = RedisStore::builder(url)
        .namespace("shop")
        .codec(Json)
        .connect()?;
    let tiered = Tiered::builder(redis).entries(10_000).build()?;
    Cache::builder("names").store(tiered).build()
}

async fn ask(who: &str, cache: &Instance, known: &'static str) {
    let load = move || async move { Ok::<_, Error<Infallible>>(known.to_owned()) };
    match cache.run("7", load).await {
        Ok(name) => println!("{who}: {}, {}", name.value, how(&name.status.to_string())),
        Err(Error::Rejected(rejected)) => println!("{who}: {}", Rejected::to_string(&rejected)),
        Err(Error::Service(never)) => match never {},
    }
}

/// Without how long it is still fresh.
fn how(status: &str) -> &str {
    status.split("; ttl").next().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, _private) = match env::var("REDIS_URL") {
        Ok(url) => (url, None),
        Err(_) => Redis::start().map(|redis| (redis.url(), Some(redis)))?,
    };
    let (here, there) = (instance(&url)?, instance(&url)?);
    here.invalidate("7").await?;
    ask("here", &here, "tea").await;
    ask("there", &there, "not asked for").await;

    // A write, and then: nobody is answered with what was there before.
    here.invalidate("7").await?;
    sleep(Duration::from_millis(50)).await;
    ask("there", &there, "green tea").await;
    ask("here", &here, "not asked for").await;
    Ok(())
}
