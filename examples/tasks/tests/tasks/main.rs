//! The tasks example, run as its users run it: processes, their environment, and HTTP; over a real
//! Postgres and a real Redis.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // times are measured here, not decided by

mod away;
mod bodies;
mod cache;
mod docs;
mod fleet;
mod lists;
mod process;
mod routes;
mod settings;

use example_support::{servers, testing as harness};
