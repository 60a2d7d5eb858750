//! The cache before an axum `Router`, over TCP.

mod defaults;
mod kept;
mod keys;
mod stale;
mod support;
mod writes;
