//! State that is shared by all instances, in Redis.
//!
//! A [`RedisStore`] keeps the answers of a [cache](crate::cache) in Redis, where every instance of
//! an application finds them. A [`Tiered`] store keeps the fresh ones in memory as well.
//!
//! ```no_run
//! use buttress::{cache::Cache, redis::{RedisStore, Tiered}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let redis = RedisStore::builder("redis://127.0.0.1:6379").namespace("shop").connect()?;
//!
//! let items: Cache<String, _> = Cache::builder("items").store(redis.section("items")).build()?;
//!
//! let tiered = Tiered::builder(redis.section("pages")).weighed(64 << 20, |page: &String| page.len());
//! let pages: Cache<String, _> = Cache::builder("pages").store(tiered.build()?).build()?;
//! # let _ = (items, pages);
//! # Ok(()) }
//! ```
//!
//! # How it works
//! Each step of the [store's protocol](crate::cache::store) is one script, which goes by the clock
//! of Redis. Every key has a time to live, so any eviction policy will do: whatever Redis evicts or
//! forgets, what was invalidated does not come back. It takes Redis 5 or later, or 6 for the memory
//! tier. The keys of an entry lie in one slot of a cluster, but the connection goes to one server:
//! a cluster's redirections are not followed.
//!
//! **Restarts.** What was stored, or leased, in another *run* of Redis (another process, or another
//! history of writes) counts as absent. So a restart from an older snapshot, or a failover to a
//! replica that lagged, cannot bring back what had been invalidated.
//!
//! **Outages.** Without a connection, a request to the store fails at once. With one, it fails
//! after 2 s without an answer, but the cache gives up long before. The connection is checked every
//! half second, and restored without your help, usually within half a second of Redis being back.
//! Building a store does not wait for a connection.
//!
//! **Tags.** A tag holds two random numbers, and lives for as long as the entries under it. To
//! invalidate it takes one script, however many entries it has.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`namespace`](RedisStoreBuilder::namespace) | none | two applications that share a Redis must not take each other's answers for theirs |
//! | [`codec`](RedisStoreBuilder::codec) | [`Json`](crate::cache::Json) | it can be read with `redis-cli`, and ignores fields that another version added |
//! | [`entries`](TieredBuilder::entries) in memory | 10,000 | |
//! | [`max_age`](TieredBuilder::max_age) in memory | 5 s | one round trip per key every 5 s is hardly noticed |
//! | [`heartbeat`](TieredBuilder::heartbeat) | 3 s | memory answers for no longer than this without hearing from Redis; it takes one ping a second |
//!
//! A store counts nothing itself: the [cache's metrics](crate::cache#metrics) tell what it did.
//!
//! # What is not promised
//! - In a split brain, a reader on the old side gets what is stored there, for as long as it is
//!   [fresh](crate::cache::Freshness::fresh). So does a reader whose connection survives a
//!   failover, until the connection is checked again.
//! - When the clock of Redis is set back, what was stored before is not used until the clock has
//!   caught up. When it is set forward, entries expire early.

mod config;
mod invalidations;
mod keys;
mod link;
mod scripts;
mod store;
mod tier;
mod tiered;
mod wire;

pub use config::RedisStoreBuilder;
pub use store::{RedisLease, RedisStore};
pub use tiered::{Tiered, TieredBuilder, TieredLease};
