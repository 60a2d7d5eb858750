#![cfg(feature = "rate-limit")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod access;
mod accounts;
mod changes;
mod debt;
mod defaults;
mod keys;
mod limiter;
mod numbers;
mod promise;
mod queue;
mod wait;
