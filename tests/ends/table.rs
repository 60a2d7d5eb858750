//! The table in the docs of `Outcome`: what it says is what policies learn, in every form in which
//! they are used. What is to be learnt is read from the docs, so a cell that changes changes the
//! test, and a row or a word that the test does not know fails it.

mod ways;

use crate::forms::{self, Form, Inside, Said};
use buttress::{
    CircuitBreaker, Guard, LoadShed, RateLimiter, Retry, Throttle, Time,
    circuit_breaker::State,
    guard::Immediate,
    load_shed::limit::{Limit, NextWindow, SampleWindow},
    retry::{Backoff, Budget},
};
use http::Request;
use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use ways::{ASKED, MS, SECOND, Scene, Way, ways};

/// The rows of the table, without their first two lines, and what is said below it.
fn docs() -> (Vec<Vec<&'static str>>, String) {
    let docs = include_str!("../../src/classify.rs");
    let (docs, _) = docs.split_once("\npub enum Outcome").unwrap();
    let lines = docs.lines().filter_map(|line| line.strip_prefix("/// "));
    let rows = lines.clone().filter(|line| line.starts_with('|')).skip(2);
    let rows = rows.map(|row| {
        let cells = row.split('|').map(str::trim);
        cells.skip(1).take(5).collect()
    });
    let text: Vec<_> = lines.filter(|line| !line.starts_with('|')).collect();
    (rows.collect(), text.join(" "))
}

/// Returns the ways to the end of a row.
fn ways_to(row: &str) -> Vec<Way> {
    let to = |way: &Way| row.split(": ").next() == Some(way.end);
    let ways: Vec<_> = ways().into_iter().filter(to).collect();
    assert!(!ways.is_empty(), "no test makes a call end so: {row}");
    ways
}

impl Way {
    /// Makes such a call through a guard, after the service has taken `time` over it.
    async fn call<G>(&self, form: Form, guard: &G, time: Duration)
    where
        G: Guard<()> + Guard<Request<()>> + Clone + Send + Sync + 'static,
        G::Wait: Immediate,
    {
        let Scene {
            inside,
            outside,
            then,
        } = (self.make)();
        let inside: Inside = Rc::new(move || {
            let work = inside();
            Box::pin(async move {
                if !time.is_zero() {
                    sleep(time).await;
                }
                work.await
            })
        });
        let guard = guard.clone();
        let call: forms::Call = match then {
            Some(then) => Box::pin(form.call((guard, then), inside)),
            None => Box::pin(form.call(guard, inside)),
        };
        let _ = outside(call).await;
    }
}

/// Runs a check for every row, way and form.
async fn check(column: usize, check: impl AsyncFn(&str, &Way, Form)) {
    let (rows, _) = docs();
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        for way in ways_to(row[0]) {
            for form in &way.forms {
                println!("{} => {}, {form:?}", row[0], way.name);
                check(row[column], &way, *form).await;
            }
        }
    }
}

#[test]
fn every_way_is_one_to_an_end_of_the_table() {
    let (rows, _) = docs();
    let all: usize = rows.iter().map(|row| ways_to(row[0]).len()).sum();
    assert_eq!(all, ways().len(), "a way leads to no row, or to two");
}

/// Fails so often that a breaker opens, if it is not open.
async fn trip(breaker: &CircuitBreaker) {
    let failure: Inside = Rc::new(|| Box::pin(async { Ok(Said::Failure) }));
    for _ in 0..5 {
        let _ = Form::Closure.call(breaker.clone(), failure.clone()).await;
    }
}

/// What a cell of the breaker's column says.
struct BreakerCell {
    successes: u64,
    failures: u64,
    /// What a half-open breaker is after such a probe.
    probed: State,
    /// Whether the breaker opens after many such calls.
    opens: bool,
    /// Whether the breaker, once it is open, stays so for as long as was asked.
    keeps_wait: bool,
}

impl BreakerCell {
    fn of(cell: &str, holds: bool) -> Self {
        let nothing = Self {
            successes: 0,
            failures: 0,
            probed: State::HalfOpen,
            opens: false,
            keeps_wait: false,
        };
        match cell {
            "success" => Self {
                successes: 1,
                probed: State::Closed,
                ..nothing
            },
            "failure" => Self {
                failures: 1,
                probed: State::Open,
                opens: true,
                ..nothing
            },
            "nothing" => nothing,
            "nothing; it keeps to the wait, if it trips" => Self {
                keeps_wait: holds,
                ..nothing
            },
            "nothing, but it is an answer: a probe has succeeded" => Self {
                probed: State::Closed,
                ..nothing
            },
            "nothing, unless it ran for long" => Self {
                opens: holds,
                ..nothing
            },
            other => panic!("no test of a breaker holds this: {other}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_learns_what_the_table_says() {
    check(1, async |cell, way, form| {
        let expected = BreakerCell::of(cell, way.holds);

        let breaker = CircuitBreaker::new("counts");
        way.call(form, &breaker, Duration::ZERO).await;
        let seen = breaker.snapshot();
        let totals = (seen.successes_total, seen.failures_total);
        assert_eq!(totals, (expected.successes, expected.failures));
        assert_eq!(seen.calls, expected.successes + expected.failures);
        assert_eq!(seen.consecutive_failures, expected.failures);
        trip(&breaker).await;
        let wait = breaker.snapshot().retry_after.unwrap();
        assert_eq!(wait > 10 * SECOND, expected.keeps_wait, "{wait:?}");
        assert!(wait <= ASKED);

        let breaker = CircuitBreaker::new("probed");
        trip(&breaker).await;
        sleep(7 * SECOND).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        way.call(form, &breaker, Duration::ZERO).await;
        assert_eq!(breaker.state(), expected.probed);

        let breaker = CircuitBreaker::new("many");
        for _ in 0..31 {
            way.call(form, &breaker, Duration::ZERO).await;
        }
        assert_eq!(breaker.state() == State::Open, expected.opens);
    })
    .await;
}

/// Writes down what was seen of calls, and leaves the limit as it is.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<SampleWindow>>>);

impl Limit for Seen {
    fn initial(&self) -> usize {
        10
    }

    fn close(&self) -> NextWindow {
        // At once, so that every call has its own.
        let mut window = NextWindow::after(0);
        (window.min, window.max) = (Duration::ZERO, Duration::ZERO);
        window
    }

    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        self.0.lock().unwrap().push(*window);
        10
    }
}

/// Returns how many samples, failures, refusals and lost calls such a call is.
fn shed_cell(cell: &str, holds: bool) -> (u64, u64, u64, u64) {
    const NOTHING: (u64, u64, u64, u64) = (0, 0, 0, 0);
    const SAMPLE: (u64, u64, u64, u64) = (1, 0, 0, 0);
    const LOST: (u64, u64, u64, u64) = (0, 0, 0, 1);
    match cell {
        "a sample" => SAMPLE,
        "no proof of capacity; lost, if late" if holds => LOST,
        "no proof of capacity; lost, if late" => (0, 1, 0, 0),
        "lost" => LOST,
        "lost, if it ran for long" if holds => LOST,
        "lost, if it ran for long" | "nothing" => NOTHING,
        "overloaded" => (0, 0, 1, 0),
        other => panic!("no test of a load shed holds this: {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_shed_learns_what_the_table_says() {
    check(2, async |cell, way, form| {
        let windows = Seen::default();
        let shed = LoadShed::builder("adaptive").limit(windows.clone());
        let shed = shed.build().unwrap();
        let slow: Inside = Rc::new(|| {
            Box::pin(async {
                sleep(MS).await;
                Ok(Said::Success)
            })
        });
        // Its first end begins the first window.
        form.call(shed.clone(), slow.clone()).await.unwrap();
        windows.0.lock().unwrap().clear();
        // Of those that end at once only some are timed.
        way.call(form, &shed, MS).await;
        assert_eq!(shed.snapshot().in_flight, 0, "a permit is back");
        sleep(MS).await;
        form.call(shed.clone(), slow.clone()).await.unwrap();
        let windows = windows.0.lock().unwrap();
        let sum = |part: fn(&SampleWindow) -> u64| windows.iter().map(part).sum::<u64>();
        let seen = (
            sum(|window| window.completions) - 1,
            sum(|window| window.failures),
            sum(|window| window.overloaded),
            sum(|window| window.lost),
        );
        let expected = shed_cell(cell, way.holds);
        assert_eq!(seen, expected);
        if expected == (0, 0, 0, 0) {
            let time: f64 = windows.iter().map(|w| w.in_flight_integral).sum();
            assert!(time < 0.005, "its time is left out, too: {time}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_throttle_learns_what_the_table_says() {
    check(3, async |cell, way, form| {
        let throttle = Throttle::new("throttle");
        way.call(form, &throttle, Duration::ZERO).await;
        let seen = throttle.snapshot();
        let expected = match cell {
            "accepted" => (1, 1, 0),
            "refused" => (1, 0, 1),
            "nothing" => (0, 0, 0),
            other => panic!("no test of a throttle holds this: {other}"),
        };
        let seen = (seen.calls, seen.accepted, seen.overloaded_total);
        assert_eq!(seen, expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_what_the_table_says() {
    check(4, async |cell, way, form| {
        let retry = Retry::builder("retry")
            .attempts(3)
            .backoff(Backoff::constant(MS))
            .budget(Budget::unlimited())
            .max_wait(2 * ASKED)
            .build()
            .unwrap();
        let scene = (way.make)();
        let (asked, began) = (Rc::new(Cell::new(0)), Instant::now());
        let inside: Inside = {
            let (asked, inside) = (asked.clone(), scene.inside);
            Rc::new(move || {
                asked.set(asked.get() + 1);
                inside()
            })
        };
        let call = async move { form.retry(&retry, inside).await };
        // Which a retry does not see.
        if scene.then.is_none() {
            let _ = (scene.outside)(Box::pin(call)).await;
        }
        let (expected, waits) = match cell {
            "is over" => (1, false),
            "repeats" => (3, false),
            "repeats, after the wait" => (3, way.holds),
            "repeats, after a `Timeout` further in" if way.holds => (3, false),
            "repeats, after a `Timeout` further in" => (1, false),
            "" => (0, false),
            other => panic!("no test of a retry holds this: {other}"),
        };
        assert_eq!(asked.get(), expected);
        assert_eq!(began.elapsed() >= 2 * ASKED, waits);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limiter_gives_back_what_was_never_started_and_learns_nothing() {
    let (rows, below) = docs();
    assert!(below.contains(
        "A rate limiter learns from none of them; it gives back what a call took that was never \
         started."
    ));
    for row in rows {
        for way in ways_to(row[0]) {
            for form in &way.forms {
                let limiter = RateLimiter::new("quota", 10, 3_600 * SECOND).unwrap();
                way.call(*form, &limiter, Duration::ZERO).await;
                let taken = u64::from(!row[0].contains("NeverStarted"));
                let seen = limiter.snapshot();
                assert_eq!(seen.admitted_total, taken, "{}, {form:?}", way.name);
                assert_eq!(seen.remaining, Some(10 - taken as u32));
            }
        }
    }
}
