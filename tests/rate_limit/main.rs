#![cfg(feature = "rate-limit")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod defaults;
mod keys;
mod limiter;
mod numbers;
mod promise;
mod wait;
