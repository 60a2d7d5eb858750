//! State that is shared by all instances, in Redis.
//!
//! [`RedisStore`] keeps the answers of a [cache](crate::cache) where every instance of an
//! application finds them.
//!
//! ```no_run
//! use buttress::redis::RedisStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let store = RedisStore::builder("redis://127.0.0.1:6379").namespace("shop").connect()?;
//! # let _ = store;
//! # Ok(()) }
//! ```

mod config;
mod invalidations;
mod keys;
mod link;
mod scripts;
mod store;
mod tier;
mod tiered;
mod wire;

pub use config::Builder;
pub use store::{RedisLease, RedisStore};
pub use tiered::{Tiered, TieredBuilder, TieredLease};
