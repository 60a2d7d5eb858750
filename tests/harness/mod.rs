//! An example as a process of its own, and a client for it: what the tests of all examples share.
#![allow(dead_code, unused_imports)]

mod answer;
mod example;
mod process;

pub(crate) use answer::{Answer, client, read};
pub(crate) use example::executable;
pub(crate) use process::{Process, eventually, signal};
