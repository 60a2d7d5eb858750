//! A cache in Redis
//~ cannot write answers of type `User` as bytes
//~ `#[derive(serde::Serialize, serde::Deserialize)]`

use buttress::{Cache, redis::RedisStore};

#[derive(Clone)]
#[cfg_attr(feature = "cure", derive(serde::Serialize, serde::Deserialize))]
struct User(#[allow(dead_code)] String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = RedisStore::builder("redis://127.0.0.1")
        .namespace("shop")
        .connect()?;
    let _users: Cache<User, _> = Cache::builder("users").store(redis).build()?;
    Ok(())
}
