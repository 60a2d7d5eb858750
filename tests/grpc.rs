//! The gRPC adapters over real TCP: tonic as server and client.
#![cfg(feature = "grpc")]
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "http/tally.rs"]
mod tally;

#[path = "grpc/bodies.rs"]
mod bodies;
#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/health.rs"]
mod health;
#[cfg(all(feature = "axum", feature = "rate-limit"))]
#[path = "grpc/nested.rs"]
mod nested;
#[cfg(feature = "retry")]
#[path = "grpc/retry.rs"]
mod retry;
#[path = "grpc/server.rs"]
mod server;
