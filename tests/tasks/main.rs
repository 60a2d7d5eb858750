//! The tasks example, run as its users run it: processes, their environment, and HTTP; over a real
//! Postgres and a real Redis.
#![cfg(all(feature = "full", unix))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // times are measured here, not decided by

#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;

mod away;
mod bodies;
mod cache;
mod docs;
mod fleet;
mod lists;
mod process;
mod routes;
mod settings;
