//! The rules for the limit: window by window, and in front of services that they cannot see into.
#![cfg(feature = "load-shed")]
#![allow(missing_docs, unreachable_pub, clippy::panic, clippy::unwrap_used)]

mod adaptive;
#[allow(dead_code)]
#[path = "../../benches/overload/grid/cell.rs"]
mod cell;
#[path = "../../benches/overload/grid/random.rs"]
mod random;
mod rules;
#[path = "../../benches/overload/grid/world.rs"]
mod world;
