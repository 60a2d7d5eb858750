//! The gateway example, run as its users run it: a process, its environment, and HTTP.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // times are measured here, not decided by

mod breaker;
mod failing;
mod limit;
mod many;
mod outside;
mod paths;
mod process;
mod script;
mod settings;
mod stopping;

use example_support::testing as harness;
