//! The cache over a real Redis: what it promises of one process holds for all that share a store.
#![cfg(all(feature = "full", unix))]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod away;
#[path = "../../examples/common/mod.rs"]
mod common;
mod crowds;
mod hang;
mod http;
mod leaders;
// The same source of answers as before the memory store.
#[allow(dead_code)]
#[path = "../cache/support.rs"]
mod source;
mod stale;
mod support;
