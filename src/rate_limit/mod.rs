//! Rate limits: how much may start within any window of time.

mod config;
mod cost;
mod forecast;
mod gcra;
mod global;
mod keyed;
mod limiter;
mod state;
mod status;
mod wait;

pub use config::{Algorithm, RateLimiterBuilder};
pub use cost::{Cost, One};
pub use limiter::{RateLimiter, Taken};
pub use status::{QuotaStatus, Snapshot};
pub use wait::{Ticket, WaitingLimiter};
