//! The HTTP adapters over real TCP: axum as the server, hyper and reqwest as clients.
#![cfg(feature = "http")]
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "http/tally.rs"]
mod tally;

#[path = "http/body.rs"]
mod body;

#[path = "http/client.rs"]
mod client;
#[path = "http/server.rs"]
mod server;

#[cfg(all(feature = "circuit-breaker", feature = "rate-limit"))]
#[path = "http/limits.rs"]
mod limits;

#[cfg(all(feature = "axum", feature = "rate-limit"))]
#[path = "http/nested.rs"]
mod nested;
