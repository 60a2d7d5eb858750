//! Which requests are sent again, with what, and when.
#![cfg(all(feature = "http", feature = "retry"))]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod bodies;
mod requests;
mod responses;
mod support;
