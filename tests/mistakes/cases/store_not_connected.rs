//! A cache in Redis
//~ is not a store for answers of type
//~ their builders become one with `.connect()?` and `.build()?`

use buttress::{Cache, redis::RedisStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = RedisStore::builder("redis://127.0.0.1").namespace("shop");
    #[cfg(feature = "cure")]
    let redis = redis.connect()?;
    let _names: Cache<String, _> = Cache::builder("names").store(redis).build()?;
    Ok(())
}
