#![cfg(feature = "circuit-breaker")]
#![allow(missing_docs)]

use buttress::{
    CircuitBreaker, Error, Kind,
    circuit_breaker::{Builder, State},
};
use std::time::Duration;
use tokio::time::advance;

type Answer = Result<u32, Error<&'static str>>;

const SECOND: Duration = Duration::from_secs(1);

fn plain() -> Builder {
    CircuitBreaker::builder("db").open_jitter(0.0)
}

async fn ok(breaker: &CircuitBreaker) -> Answer {
    breaker.run(async || Ok(1)).await
}

async fn fail(breaker: &CircuitBreaker) -> Answer {
    breaker.run(async || Err(Error::Service("boom"))).await
}

// case 4
#[tokio::test(start_paused = true)]
async fn it_opens_after_failures_in_a_row_and_probes_exactly_at_the_deadline() {
    let breaker = plain().consecutive_failures(3).build().unwrap();
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(fail(&breaker).await, Err(Error::Service("boom")));
    }
    assert_eq!(breaker.state(), State::Open);
    advance(5 * SECOND - Duration::from_millis(1)).await;
    let Err(Error::Rejected(rejected)) = ok(&breaker).await else {
        panic!("let in too early");
    };
    assert_eq!(rejected.kind(), Kind::CircuitOpen);
    assert_eq!(rejected.policy(), "db");
    assert_eq!(rejected.retry_after(), Some(Duration::from_millis(1)));
    advance(Duration::from_millis(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(ok(&breaker).await, Ok(1));
    assert_eq!(breaker.state(), State::Closed);
}
