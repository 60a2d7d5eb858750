//! The gateway example, run as its users run it: a process, its environment, and HTTP.
#![cfg(feature = "full")]
#![allow(missing_docs, clippy::disallowed_methods)] // times are measured, not decided by

mod breaker;
mod example;
mod failing;
mod limit;
mod many;
mod outside;
mod paths;
mod process;
mod script;
mod settings;
mod stopping;
