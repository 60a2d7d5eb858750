//! What readers saw while rows in a real Postgres were written and a real Redis was mistreated,
//! held against what the cache promises.
#![cfg(all(feature = "full", unix))]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and record when something happened.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod check;
mod dice;
mod faults;
mod history;
mod readers;
mod runs;
mod wire;
mod world;
mod writers;

use example_support::servers;
