//! The HTTP and gRPC adapters, most of them over real TCP: axum and tonic as servers, hyper, reqwest
//! and tonic as clients.
#![cfg(feature = "full")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used
)]

mod body;
mod body_limits;
mod by_request;
mod cache;
mod client;
mod deadline;
mod edges;
mod grpc;
mod limits;
mod nested;
mod probes;
mod responders;
mod retry;
mod server;
mod tally;
mod tower_http;
mod upgrades;
