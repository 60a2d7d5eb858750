//! The cache over a real Redis: what it promises of one process holds for all that share a store.

mod away;
mod crowds;
mod hang;
mod http;
mod leaders;
mod stale;
mod support;
