//! What every layer promises, whatever it does: one suite, run over all of them.
//!
//! A layer joins with one line below and a function in `layers/` that says how its state is read.
#![cfg(feature = "http")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod checks;
mod inner;
mod layers;
mod subject;

/// Runs all checks over each of these layers.
macro_rules! contract {
    ($($layer:ident::$manner:ident;)*) => {
        $(mod $manner { $crate::checks::checks!($crate::layers::$layer::$manner); })*
    };
}

contract! {
    guard::plain_guard;
    guard::guard_that_waits;
    guard::guard_to_the_end_of_the_body;
    guard::guard_answering;
}
#[cfg(feature = "timeout")]
contract! {
    timeout::timeout;
    timeout::deadline;
}
