//! The gRPC adapters over real TCP: tonic as server and client.

mod bodies;
mod client;
pub(crate) mod health;
mod nested;
mod one_port;
mod retry;
mod server;
mod web;
