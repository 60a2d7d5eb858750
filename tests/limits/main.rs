#![cfg(feature = "load-shed")]
#![allow(missing_docs)]

mod adaptive;
mod rng;
mod rules;
mod scenarios;
mod sim;
