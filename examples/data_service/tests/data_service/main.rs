//! The data service example, run as its users run it: a process, its environment, real servers that
//! die, hang and come back, and HTTP.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // times are measured here, not decided by

mod bare;
mod limit;
mod postgres;
mod redis;
mod routes;
mod service;
mod settings;
mod shared;
mod stopping;
mod writes;

use example_support::{servers, testing as harness};
