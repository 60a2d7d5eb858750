//! Closures are the equal of layers: every `run` is `Send` where it is used, can be told what
//! results mean, and takes the request where the policy tells requests apart.
#![cfg(feature = "full")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod classified;
mod events;
mod everywhere;
mod keyed;
mod option;
mod send;
mod shadow;
