//! The limit on calls in flight, in its three manners.
#![cfg(feature = "load-shed")]
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "load_shed/adaptive.rs"]
mod adaptive;
#[path = "load_shed/config.rs"]
mod config;
#[path = "load_shed/conservation.rs"]
mod conservation;
#[path = "load_shed/manners.rs"]
mod manners;
#[path = "load_shed/priority.rs"]
mod priority;
#[path = "load_shed/queue.rs"]
mod queue;
#[path = "load_shed/reserve.rs"]
mod reserve;
#[path = "load_shed/support.rs"]
mod support;
