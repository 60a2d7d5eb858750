//! What the example services share: reading their environment, being told to stop, and private
//! Postgres, Redis and nginx servers for when none is given.

pub mod env;
#[cfg(all(feature = "servers", unix))]
pub mod servers;
#[cfg(feature = "shutdown")]
pub mod shutdown;
#[cfg(all(feature = "testing", unix))]
pub mod testing;
