//! What the plumbing does with a guard, whatever the guard decides.
#![allow(missing_docs)]

mod panics;
mod provenance;
mod readiness;
mod run;
mod service;
mod support;
mod tuple;
mod wait;
