//! Answers that are kept, with stale ones to fall back on.
// In progress.
#![allow(dead_code, missing_docs)]

mod codec;
mod freshness;
mod key;
pub mod store;

pub use codec::Codec;
#[cfg(feature = "redis")]
pub use codec::{Binary, Json};
pub use freshness::{Entry, Freshness, Worth};
pub use key::{EntryKey, KeyRef};
pub use store::{Acquired, Ask, Fill, Mode, Store, StoreError};
