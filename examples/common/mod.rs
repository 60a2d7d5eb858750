//! Servers of one's own for examples and tests: each in a temporary directory, on ports nobody
//! else uses, ready when `start` returns, and gone with its directory when dropped, or when the
//! process that started it is killed. Unix only.
//!
//! Starting, restarting and stopping block the thread for some milliseconds; Postgres's first
//! start takes half a second.

// Whoever includes this uses some of it.
#![allow(dead_code, unused_imports)]

mod nginx;
mod ports;
mod postgres;
mod redis;
mod server;

pub(crate) use self::{nginx::Nginx, ports::free_port, postgres::Postgres, redis::Redis};
