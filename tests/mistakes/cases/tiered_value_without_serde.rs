//! A cache in Redis
//~ cannot write answers of type `User` as bytes
//~ `#[derive(serde::Serialize, serde::Deserialize)]`

use buttress::redis::{RedisStore, Tiered};

#[derive(Clone)]
#[cfg_attr(feature = "cure", derive(serde::Serialize, serde::Deserialize))]
struct User(#[allow(dead_code)] String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = RedisStore::builder("redis://127.0.0.1")
        .namespace("shop")
        .connect()?;
    let _store = Tiered::<User, _>::builder(redis).build()?;
    Ok(())
}
