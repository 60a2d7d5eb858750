//! What a call does when its attempts fail.
#![cfg(feature = "retry")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod attempts;
mod budget;
#[cfg(feature = "timeout")]
mod deadline;
mod defaults;
#[cfg(feature = "timeout")]
mod jitter;
mod lost_calls;
mod pushback;
mod rare_callers;
mod readiness;
mod refusals;
mod support;
