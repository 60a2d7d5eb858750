//! State that is shared by all instances, in Redis.
//!
//! A [`RedisStore`] keeps the answers of a [cache](crate::cache) where every instance of an
//! application finds them; a [`Tiered`] store keeps the fresh ones in memory besides.
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
//! # How
//! Each step of the [store's protocol](crate::cache::store) is one script, on the clock of Redis.
//! Every key has a time to live, so any eviction policy does; whatever Redis evicts or forgets,
//! what was invalidated does not come back. Redis 5 or later will do, 6 for the memory tier. The
//! keys of an entry lie in one slot of a cluster, but one connection goes to one server: a
//! cluster's redirections are not followed.
//!
//! **Restarts.** What was stored, or leased, in another *run* of Redis (another process, or another
//! history of writes) counts for nothing: a restart from an older snapshot, or a failover to a
//! replica that lagged, cannot bring back what had been dropped.
//!
//! **Away.** A call without a connection fails at once, and one that gets no answer after 2 s; the
//! cache gives up long before. The connection is looked at every half second, and comes back by
//! itself: within half a second of Redis, usually. Building a store does not wait for it.
//!
//! **Tags.** A tag holds two random numbers, and lives for as long as what is under it. To
//! invalidate it is one command, however many entries it has.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`namespace`](RedisStoreBuilder::namespace) | none | two applications that share a Redis must not take each other's answers for theirs |
//! | [`codec`](RedisStoreBuilder::codec) | [`Json`](crate::cache::Json) | it can be read with `redis-cli`, and forgives fields that another version added |
//! | [`entries`](TieredBuilder::entries) in memory | 10,000 | |
//! | [`max_age`](TieredBuilder::max_age) in memory | 5 s | after that one round trip per key is hardly felt |
//! | [`heartbeat`](TieredBuilder::heartbeat) | 3 s | so one question a second; memory answers no longer than that without being told of invalidations |
//!
//! A store counts nothing itself: the [cache's metrics](crate::cache#metrics) say what it did.
//!
//! # What is not promised
//! - In a split brain a reader on the old side gets what is there, for as long as it is
//!   [fresh](crate::cache::Freshness::fresh). So does one whose connection survives a failover,
//!   until it is looked at.
//! - When the clock of Redis is set back, what it stored before is not used until the time has come
//!   again; when it is set forward, entries end early.

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
