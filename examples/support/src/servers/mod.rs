//! Servers of one's own for examples and tests: each in a temporary directory, on ports nobody
//! else uses, ready when `start` returns, and gone with its directory when dropped, or when the
//! process that started it is killed. Unix only.
//!
//! Starting, restarting and stopping block the thread for some milliseconds; Postgres's first
//! start takes half a second.

mod nginx;
mod ports;
mod postgres;
mod redis;
mod server;

pub use self::{nginx::Nginx, ports::free_port, postgres::Postgres, redis::Redis};
