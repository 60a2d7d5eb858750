//! An example as a process of its own, and a client for it: what the tests of all examples share.
// Test helpers fail like the tests that call them, and ask a clock how long something took.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod answer;
mod process;

pub use answer::{Answer, client, read};
pub use process::{Process, eventually, signal};
