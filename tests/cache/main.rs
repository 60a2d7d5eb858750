//! What the cache does, with a store in memory and with stores that do not do what they should.
#![cfg(all(feature = "full", unix))]
#![allow(missing_docs)]
// Tests measure with tokio's clock, stopped.
#![allow(clippy::disallowed_methods)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod crowds;
mod defaults;
mod freshness;
mod invalidation;
mod layer;
mod memory;
mod redis_store;
mod settings;
mod shared;
mod store_client;
mod support;
mod tags_model;

use example_support::servers;
