#![cfg(feature = "circuit-breaker")]
#![allow(missing_docs)]
// Helpers may fail like the tests that call them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod abandoned;
mod balance;
mod concurrency;
mod configuration;
mod constant;
mod defaults;
mod half_open;
mod hints;
mod keyed;
mod layer;
mod manual;
mod model;
mod promises;
mod slow;
mod trip;
mod waits;

use buttress::{
    CircuitBreaker, Guard, GuardBase, Kind, Now, Outcome, Rejected,
    circuit_breaker::{CircuitBreakerBuilder, Permit},
    guard::{Admission, End},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const WELL: End = End::Done(Outcome::Success);
const UNWELL: End = End::Done(Outcome::Failure);
const IGNORED: End = End::Done(Outcome::Ignored);

fn overloaded(retry_after: Option<Duration>) -> End {
    End::Done(Outcome::Overloaded { retry_after })
}

/// Without jitter: 5 s open, one probe.
fn plain() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("db").open_jitter(0.0)
}

fn admit(breaker: &CircuitBreaker) -> Result<Permit, Rejected> {
    match breaker.admit(&(), &Now::lazy()) {
        Admission::Admitted(permit) => Ok(permit),
        Admission::Refused(rejected) => Err(rejected),
        Admission::Wait(wait) => match wait {},
    }
}

fn end(breaker: &CircuitBreaker, permit: Permit, end: End) {
    breaker.settle(permit, end, &Now::lazy());
}

/// A call that ends at once.
fn call(breaker: &CircuitBreaker, how: End) {
    end(breaker, admit(breaker).expect("refused"), how);
}

/// A call that has been polled.
fn start(breaker: &CircuitBreaker) -> Permit {
    let mut permit = admit(breaker).expect("refused");
    breaker.on_pending(&mut permit, &Now::lazy());
    permit
}

fn refused(breaker: &CircuitBreaker) -> Option<Duration> {
    let rejected = admit(breaker).expect_err("let in");
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (Kind::CircuitOpen, breaker.name())
    );
    rejected.retry_after()
}
