//! The rules for the limit, one by one and in a simulation of what they are for.
#![cfg(feature = "load-shed")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod adaptive;
mod event;
mod relay;
mod rng;
mod rules;
mod scenarios;
mod sim;
