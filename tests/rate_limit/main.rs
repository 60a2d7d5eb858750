#![cfg(feature = "rate-limit")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod defaults;
mod limiter;
mod promise;
mod wait;
