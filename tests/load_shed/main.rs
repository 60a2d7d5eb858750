//! The limit on calls in flight, in its three modes.
#![cfg(feature = "load-shed")]
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod adaptive;
mod config;
mod conservation;
mod defaults;
mod modes;
mod priority;
mod queue;
mod reserve;
mod support;
