//! The table in the docs of `Outcome`, row by row.

use buttress::{
    CircuitBreaker, Error, Guard, LoadShed, Now, Outcome, RateLimiter, Retry, Throttle, Time,
    guard::{Admission, End},
    load_shed::limit::{Limit, NextWindow, SampleWindow},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::advance;

const MS: Duration = Duration::from_millis(1);
const OVERLOADED: Outcome = Outcome::Overloaded { retry_after: None };

/// Makes a call of this guard that is polled, takes this long, and ends so.
async fn call<G: Guard<(), Permit: Sized>>(guard: &G, took: Duration, end: End) {
    let Admission::Admitted(mut permit) = guard.admit(&(), &Now::lazy()) else {
        panic!("not let in");
    };
    guard.on_pending(&mut permit, &Now::lazy());
    advance(took).await;
    guard.settle(permit, end, &Now::lazy());
}

/// A limit that keeps what it is told: calls are lost after 50 ms, and a failure after 200 ms.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<SampleWindow>>>);

impl Limit for Told {
    fn initial(&self) -> usize {
        1_000
    }
    fn close(&self) -> NextWindow {
        let mut close = NextWindow::after(1);
        (close.min, close.max, close.few) = (MS, MS, 1);
        (close.short, close.long) = (50 * MS, 200 * MS);
        close
    }
    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        self.0.lock().unwrap().push(*window);
        1_000
    }
}

/// What one end teaches: a breaker's successes and failures, a load shed's completions, lost and
/// overloaded, and what a throttle counts as accepted and refused.
type Taught = ((u64, u64), (u64, u64, u64), (u64, u64));

async fn taught(took: Duration, end: End) -> Taught {
    let breaker = CircuitBreaker::new("b");
    call(&breaker, took, end).await;
    let breaker = breaker.snapshot();

    let told = Told::default();
    let shed = LoadShed::builder("s").limit(told.clone()).build().unwrap();
    // The first end begins the first window, and others close it.
    let other = End::Done(Outcome::Success);
    call(&shed, 2 * MS, other).await;
    call(&shed, took, end).await;
    for _ in 0..3 {
        call(&shed, 2 * MS, other).await;
    }
    let windows = told.0.lock().unwrap().clone();
    let sum = |part: fn(&SampleWindow) -> u64| windows.iter().map(part).sum::<u64>();
    let shed = (
        sum(|w| w.completions) - 3,
        sum(|w| w.lost),
        sum(|w| w.overloaded),
    );

    let throttle = Throttle::new("t");
    call(&throttle, took, end).await;
    let throttle = throttle.snapshot();
    (
        (breaker.successes_total, breaker.failures_total),
        shed,
        (throttle.accepted, throttle.overloaded_total),
    )
}

#[tokio::test(start_paused = true)]
async fn every_end_teaches_every_guard_what_the_table_says() {
    let done = End::Done;
    for (end, short, long) in [
        (done(Outcome::Success), ((1, 0), (1, 0, 0), (1, 0)), None),
        (
            done(Outcome::Failure),
            ((0, 1), (1, 0, 0), (1, 0)),
            Some(((0, 1), (0, 1, 0), (1, 0))),
        ),
        (done(OVERLOADED), ((0, 0), (0, 0, 1), (0, 1)), None),
        (done(Outcome::Ignored), ((0, 0), (1, 0, 0), (1, 0)), None),
        (done(Outcome::Refused), ((0, 0), (0, 0, 0), (0, 0)), None),
        (End::TimedOut, ((0, 1), (0, 1, 0), (0, 0)), None),
        (
            End::Cancelled,
            ((0, 0), (0, 0, 0), (0, 0)),
            Some(((0, 0), (0, 1, 0), (0, 0))),
        ),
        (End::RequestFailed, ((0, 0), (0, 0, 0), (0, 0)), None),
        (
            End::Panicked,
            ((0, 1), (0, 0, 0), (0, 0)),
            Some(((0, 1), (0, 1, 0), (0, 0))),
        ),
        (End::NeverStarted, ((0, 0), (0, 0, 0), (0, 0)), None),
    ] {
        assert_eq!(taught(10 * MS, end).await, short, "{end:?}");
        let long = long.unwrap_or(short);
        assert_eq!(taught(300 * MS, end).await, long, "{end:?}, after long");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limiter_gives_back_only_what_never_started() {
    let done = End::Done;
    for end in [
        done(Outcome::Success),
        done(Outcome::Failure),
        done(OVERLOADED),
        done(Outcome::Ignored),
        done(Outcome::Refused),
        End::TimedOut,
        End::Cancelled,
        End::RequestFailed,
        End::Panicked,
        End::NeverStarted,
    ] {
        let limiter = RateLimiter::new("l", 10, 3_600_000 * MS).unwrap();
        call(&limiter, MS, end).await;
        let left = if end == End::NeverStarted { 10 } else { 9 };
        assert_eq!(limiter.snapshot().remaining, Some(left), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_failures_and_overload_and_nothing_else() {
    for (outcome, attempts) in [
        (Outcome::Success, 1),
        (Outcome::Failure, 3),
        (OVERLOADED, 3),
        (Outcome::Ignored, 1),
        (Outcome::Refused, 1),
    ] {
        let mut made = 0;
        let retry = Retry::new("r").classify(move |_: Result<&(), &Error<&str>>| outcome);
        let answer = retry.run(|| {
            made += 1;
            async { Err::<(), _>(Error::Service("so")) }
        });
        assert!(answer.await.is_err());
        assert_eq!(made, attempts, "{outcome:?}");
    }
}
