//! The gRPC adapters over real TCP: tonic as server and client.

mod bodies;
mod client;
mod health;
mod retry;
mod server;
