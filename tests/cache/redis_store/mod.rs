//! The store in Redis, against a real one.

mod bound;
mod cache;
mod config;
mod defaults;
mod entries;
mod faults;
mod leases;
mod model;
mod runs;
mod server;
mod support;
mod tags;
mod tiered;
