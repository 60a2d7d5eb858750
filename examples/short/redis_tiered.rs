//! A cache in memory over Redis: instances share what they load, and an invalidation reaches all.
//!
//! `cargo run --example redis_tiered` boots a Redis for itself, or uses the one at `REDIS_URL`.

use buttress::Error;
use buttress::cache::{Cache, Json};
use buttress::redis::{RedisStore, Tiered};
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
    // By default a store that takes longer than 100 ms is a miss; a busy machine may need more.
    let names = Cache::builder("names").store_timeout(Duration::from_secs(5));
    names.store(tiered).build()
}

async fn ask(who: &str, cache: &Instance, known: &'static str) {
    let load = move || async move { Ok::<_, Error<Infallible>>(known.to_owned()) };
    match cache.run("7", load).await {
        Ok(name) => println!("{who}: {}, {:?}", name.value, name.status.served()),
        Err(Error::Rejected(rejected)) => println!("{who}: {rejected}"),
        Err(Error::Service(never)) => match never {},
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, _private) = match env::var("REDIS_URL") {
        Ok(url) => (url, None),
        Err(_) => Redis::start().map(|redis| (redis.url(), Some(redis)))?,
    };
    let (here, there) = (instance(&url)?, instance(&url)?);
    // Nothing waits for Redis to be connected to. Until it is, a write would have to be repeated.
    for instance in [&here, &there] {
        while instance.invalidate("7").await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
    ask("here", &here, "tea").await;
    ask("there", &there, "not asked for").await;

    // A write. What others keep in memory is gone in milliseconds, and after 3 s at the latest.
    here.invalidate("7").await?;
    sleep(Duration::from_secs(1)).await;
    ask("there", &there, "green tea").await;
    ask("here", &here, "not asked for").await;
    Ok(())
}
