//! The HTTP cache over each of the stores: what holds for one holds for all.
#![cfg(all(feature = "full", unix))]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock whether to go on waiting.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod convoys;
mod dropped;
mod nested;
mod schemes;
mod sharing;
mod stores;

use example_support::servers;
