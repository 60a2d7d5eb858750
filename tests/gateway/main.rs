//! The gateway example, run as its users run it: a process, its environment, and HTTP.
#![cfg(feature = "full")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // times are measured here, not decided by

mod breaker;
mod failing;
#[path = "../harness/mod.rs"]
mod harness;
mod limit;
mod many;
mod outside;
mod paths;
mod process;
mod script;
mod settings;
mod stopping;
