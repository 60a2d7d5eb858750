//! What the plumbing does with a guard, whatever the guard decides.
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::panic, clippy::unwrap_used)]

mod by_request;
mod forward;
mod named;
mod panics;
mod provenance;
mod readiness;
mod run;
mod service;
mod support;
mod tuple;
mod wait;
mod waits;
