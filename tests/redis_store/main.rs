//! The store in Redis, against a real one.
#![cfg(feature = "redis")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod bound;
mod cache;
mod config;
mod entries;
mod faults;
mod leases;
mod model;
mod runs;
mod server;
mod support;
mod tags;
mod tiered;
