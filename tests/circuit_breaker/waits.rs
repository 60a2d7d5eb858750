//! Calls that wait for another policy do not run in the dependency.

use super::*;
use buttress::{
    Error, RateLimiter, Retry,
    circuit_breaker::State,
    guard,
    retry::{Backoff, Budget, Jitter},
};
use std::io;
use tokio::{
    task::{JoinHandle, yield_now},
    time::{advance, sleep},
};

type Answer = Result<(), Error<io::Error>>;

/// Two attempts, of which only the second succeeds, after a wait of 2 s.
fn retry() -> Retry {
    let backoff = Backoff::constant(2 * SECOND).jitter(Jitter::None);
    let builder = Retry::builder("r").attempts(2).backoff(backoff);
    builder.budget(Budget::unlimited()).build().unwrap()
}

/// A call whose attempts take 10 ms each.
fn call_with_backoff(breaker: &CircuitBreaker, retry: &Retry) -> JoinHandle<Answer> {
    let (breaker, retry) = (breaker.clone(), retry.clone());
    tokio::spawn(async move {
        let mut attempt = 0;
        let twice = || {
            retry.run(move || {
                attempt += 1;
                async move {
                    sleep(10 * MILLI).await;
                    match attempt {
                        1 => Err(Error::Service(io::Error::from(io::ErrorKind::TimedOut))),
                        _ => Ok(()),
                    }
                }
            })
        };
        breaker.run(twice).await
    })
}

/// Lets all tasks do what they have to after this time.
async fn pass(time: Duration) {
    for _ in 0..3 {
        yield_now().await;
    }
    advance(time).await;
    for _ in 0..3 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_a_backoff_are_not_taken_for_calls_that_hang() {
    let builder = plain().slow_call_rate(0.5).minimum_calls(10);
    let (breaker, retry) = (builder.build().unwrap(), retry());
    let calls: Vec<_> = (0..20)
        .map(|_| call_with_backoff(&breaker, &retry))
        .collect();
    pass(10 * MILLI).await;
    for _ in 0..7 {
        pass(250 * MILLI).await;
        assert_eq!(breaker.snapshot().in_flight_slow, 0);
        call(&breaker, WELL);
        assert_eq!(breaker.state(), State::Closed);
    }
    pass(250 * MILLI).await;
    pass(10 * MILLI).await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.slow_calls_total, snapshot.successes_total),
        (0, 27)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_after_a_wait_hangs_as_soon_as_the_dependency_has_had_it_for_too_long()
{
    let breaker = plain()
        .slow_call_rate(1.0)
        .minimum_calls(100)
        .build()
        .unwrap();
    let mut permit = start(&breaker);
    advance(100 * MILLI).await;
    breaker.on_wait_begin(&mut permit, &Now::lazy());
    advance(10 * SECOND).await;
    assert_eq!(breaker.snapshot().in_flight_slow, 0);
    breaker.on_wait_end(&mut permit, 10 * SECOND, &Now::lazy());
    advance(100 * MILLI).await;
    assert_eq!(breaker.snapshot().in_flight_slow, 0);
    // To an eighth of the 250 ms that it takes to be slow.
    advance(50 * MILLI + 32 * MILLI).await;
    assert_eq!(breaker.snapshot().in_flight_slow, 1);
    end(&breaker, permit, WELL);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.in_flight_slow, snapshot.slow_calls_total), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_in_a_backoff_teach_nothing_and_leave_no_call_behind() {
    let builder = plain().slow_call_rate(0.5).minimum_calls(10);
    let (breaker, retry) = (builder.build().unwrap(), retry());
    for _ in 0..100 {
        let call = call_with_backoff(&breaker, &retry);
        pass(10 * MILLI).await;
        pass(SECOND).await;
        call.abort();
        assert!(call.await.is_err());
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    assert_eq!((snapshot.in_flight_slow, snapshot.slow_calls_total), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_in_a_backoff_does_not_hang_and_its_answer_counts() {
    let builder = plain().probe_timeout(SECOND).consecutive_failures(1);
    let (breaker, retry) = (builder.build().unwrap(), retry());
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    let probe = call_with_backoff(&breaker, &retry);
    pass(10 * MILLI).await;
    pass(2 * SECOND).await;
    pass(10 * MILLI).await;
    probe.await.unwrap().unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

/// Half-open, with a lease of a second; and how long the dependency takes as a rule is known.
async fn probed() -> CircuitBreaker {
    let builder = plain().probe_timeout(SECOND).consecutive_failures(1);
    let breaker = builder.build().unwrap();
    let answered = start(&breaker);
    advance(10 * MILLI).await;
    end(&breaker, answered, WELL);
    call(&breaker, UNWELL);
    advance(5 * SECOND).await;
    breaker
}

/// A limiter whose next token comes after this time.
async fn line(time: Duration) -> RateLimiter {
    let limiter = RateLimiter::new("line", 1, time).unwrap();
    limiter.run(async || Ok::<_, Rejected>(())).await.unwrap();
    limiter
}

#[tokio::test(start_paused = true)]
async fn probes_in_the_line_of_another_guard_of_their_tuple_do_not_hang_and_the_first_decides() {
    let breaker = probed().await;
    let line = line(10 * SECOND).await.wait_up_to(Duration::MAX);
    for _ in 0..6 {
        let both = (breaker.clone(), line.clone());
        tokio::spawn(async move { guard::run(&both, &(), async || Ok::<_, Rejected>(())).await });
        pass(SECOND + MILLI).await;
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    pass(4 * SECOND).await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_whose_wait_inside_outlasts_the_lease_decide_while_calls_keep_arriving() {
    for (how, state) in [(true, State::Closed), (false, State::Open)] {
        let breaker = probed().await;
        let line = line(12 * SECOND).await.wait_up_to(Duration::MAX);
        let began = Now::lazy().get();
        while breaker.state() == State::HalfOpen {
            let (breaker, line) = (breaker.clone(), line.clone());
            tokio::spawn(async move {
                let op = async || match how {
                    true => Ok(()),
                    false => Err(Error::Service(io::Error::other("broken"))),
                };
                let _: Answer = breaker.run(|| line.run(op)).await;
            });
            pass(100 * MILLI).await;
            assert!(Now::lazy().get().since(began) < 13 * SECOND);
        }
        assert_eq!(breaker.state(), state);
    }
}
