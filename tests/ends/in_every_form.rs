//! Hints, probes and callers who leave, in every form in which a breaker or a retry is used.

use crate::forms::{ALL, Call, Fails, Form, Inside, PROCESSES, Said};
use buttress::{
    Cache, CircuitBreaker, Error, LoadShed, Now, Outcome, RateLimiter, Retry,
    cache::{
        AcquireOptions, Acquired, Entry, EntryKey, Fill, Hit, InvalidationMode, KeyRef, Store,
        StoreError,
    },
    circuit_breaker::State,
    guard::{self, hold},
    rate_limit::WaitingLimiter,
    retry::{Backoff, Budget},
};
use futures::future::{Either, select};
use std::{cell::Cell, future::pending, io, mem, rc::Rc, time::Duration};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A service that says so after a while.
fn says(said: Said, after: Duration) -> Inside {
    Rc::new(move || {
        Box::pin(async move {
            sleep(after).await;
            Ok(said)
        })
    })
}

fn hangs() -> Inside {
    Rc::new(|| Box::pin(pending()))
}

/// Counts how often it is asked.
fn counted(inside: Inside) -> (Inside, Rc<Cell<u32>>) {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    let inside: Inside = Rc::new(move || {
        count.set(count.get() + 1);
        inside()
    });
    (inside, asked)
}

/// Makes a call, whose end is not looked at.
async fn call(form: Form, breaker: &CircuitBreaker, inside: &Inside) {
    let _ = form.call(breaker.clone(), inside.clone()).await;
}

/// Open for 5 s, and half-open since now.
async fn half_open(form: Form) -> CircuitBreaker {
    let breaker = CircuitBreaker::builder("db").consecutive_failures(1);
    let breaker = breaker.slow_call_rate(0.5).build().unwrap();
    call(form, &breaker, &says(Said::Failure, MS)).await;
    sleep(6 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

#[tokio::test(start_paused = true)]
async fn a_success_cancels_a_wait_and_a_setting_bounds_it() {
    for form in ALL {
        for (successes, within) in [(1, 6 * SECOND), (1_000, 6 * SECOND), (0, 60 * SECOND)] {
            let breaker = CircuitBreaker::new("orders");
            call(form, &breaker, &says(Said::Overloaded(Some(DAY)), MS)).await;
            for _ in 0..successes {
                call(form, &breaker, &says(Said::Success, MS)).await;
            }
            for _ in 0..5 {
                call(form, &breaker, &says(Said::Failure, MS)).await;
            }
            let wait = breaker.snapshot().retry_after.unwrap();
            assert!(wait <= within, "{form:?}, {successes}: {wait:?}");
            assert!(successes > 0 || wait > 50 * SECOND, "{form:?}: {wait:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_asked_for_a_wait_gets_one_call_of_three_hundred_if_opted_for() {
    let opt_in = CircuitBreaker::builder("partner").open_when_overloaded(60 * SECOND);
    for form in ALL {
        for (breaker, reached) in [
            (opt_in.clone().build().unwrap(), 1),
            (CircuitBreaker::new("partner"), 300),
        ] {
            let (inside, asked) = counted(says(Said::Overloaded(Some(30 * SECOND)), MS));
            for _ in 0..300 {
                call(form, &breaker, &inside).await;
                sleep(50 * MS).await;
            }
            assert_eq!(asked.get(), reached, "{form:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_asked_beyond_five_seconds() {
    for form in ALL {
        for (asked_for, attempts) in [(5, 3), (30, 1)] {
            let (inside, asked) = counted(says(
                Said::Overloaded(Some(asked_for * SECOND)),
                Duration::ZERO,
            ));
            let began = Instant::now();
            let retry = Retry::builder("partner").budget(Budget::unlimited());
            let _ = form.retry(&retry.build().unwrap(), inside).await;
            assert_eq!(asked.get(), attempts, "{form:?}");
            let waited = began.elapsed();
            assert!(
                waited <= 11 * SECOND * (attempts - 1),
                "{form:?}: {waited:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_dependency_is_probed_when_it_said() {
    for form in ALL {
        let breaker = half_open(form).await;
        let (inside, asked) = counted(says(Said::Overloaded(Some(30 * SECOND)), MS));
        let began = Instant::now();
        for _ in 0..1_000 {
            call(form, &breaker, &inside).await;
            sleep(29 * MS).await;
        }
        assert!(began.elapsed() < 30 * SECOND);
        assert_eq!(
            (asked.get(), breaker.state()),
            (1, State::HalfOpen),
            "{form:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_answers_only_what_is_ignored_is_called_by_all_again() {
    for form in ALL {
        let breaker = half_open(form).await;
        let (inside, asked) = counted(says(Said::Ignored, MS));
        for _ in 0..20 {
            call(form, &breaker, &inside).await;
        }
        assert_eq!(
            (asked.get(), breaker.state()),
            (20, State::Closed),
            "{form:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_leaves_hands_its_place_on() {
    for form in ALL {
        let breaker = half_open(form).await;
        for _ in 0..5 {
            let left = form.call(breaker.clone(), hangs());
            assert!(tokio::time::timeout(SECOND, left).await.is_err());
            assert_eq!(breaker.state(), State::HalfOpen, "{form:?}");
        }
        call(form, &breaker, &says(Said::Success, MS)).await;
        assert_eq!(breaker.state(), State::Closed, "{form:?}");
    }
}

/// A limiter whose line takes 900 ms.
async fn line() -> WaitingLimiter {
    let limiter = RateLimiter::new("line", 1, SECOND).unwrap();
    hold(limiter.clone(), &()).unwrap().end(Outcome::Success);
    sleep(100 * MS).await;
    limiter.wait_up_to(10 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_waited_for_further_in_is_not_the_services_slowness() {
    for form in ALL {
        let breaker = half_open(form).await;
        let line = line().await;
        let inside: Inside = Rc::new(move || {
            let line = line.clone();
            Box::pin(async move { line.run(async || Ok(Said::Success)).await })
        });
        let began = Instant::now();
        call(form, &breaker, &inside).await;
        assert!(began.elapsed() >= 900 * MS);
        assert_eq!(breaker.state(), State::Closed, "{form:?}");
        assert_eq!(breaker.snapshot().slow_calls_total, 0, "{form:?}");
    }
    // In the same tuple, around a closure.
    let breaker = half_open(Form::Closure).await;
    let both = (breaker.clone(), line().await);
    let work = async || Ok::<_, Fails>(());
    guard::run(&both, &(), work).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
    // The time in the service is.
    let breaker = half_open(Form::Closure).await;
    call(Form::Closure, &breaker, &says(Said::Success, 900 * MS)).await;
    assert_eq!(breaker.state(), State::Open);
}

/// Calls that end as their callers want, one after the other. Returns whether the breaker opened.
async fn opens(form: Form, inside: Inside, times: usize, leave: impl AsyncFn(Call)) -> bool {
    let breaker = CircuitBreaker::new("search");
    for _ in 0..20 {
        call(form, &breaker, &says(Said::Success, 400 * MS)).await;
    }
    for _ in 0..times {
        leave(Box::pin(form.call(breaker.clone(), inside.clone()))).await;
    }
    breaker.snapshot().trips_total > 0
}

#[tokio::test(start_paused = true)]
async fn losers_of_hedges_and_of_select_open_nothing() {
    for form in ALL {
        // The second is sent after 300 ms, and wins by then.
        let hedged = async |first: Call| {
            let second = form.call(CircuitBreaker::new("second"), says(Said::Success, 50 * MS));
            let second = Box::pin(async {
                sleep(300 * MS).await;
                second.await
            });
            let Either::Right((won, loser)) = select(first, second).await else {
                panic!("the first has won");
            };
            won.unwrap();
            drop(loser);
        };
        let slow = says(Said::Success, 2 * SECOND);
        assert!(!opens(form, slow, 100, hedged).await, "{form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_while_we_wait_open_nothing_and_those_who_leave_a_hang_do() {
    let left = async |call: Call| {
        assert!(tokio::time::timeout(2 * SECOND, call).await.is_err());
    };
    let is_over = async |call: Call| {
        let _ = tokio::time::timeout(2 * SECOND, call).await;
    };
    let shed = LoadShed::builder("full").fixed(1).wait(60 * SECOND);
    let shed = shed.build().unwrap();
    mem::forget(hold(shed.clone(), &()).unwrap());
    let queue = shed.queued();
    let limiter = RateLimiter::new("line", 1, 3_600 * SECOND).unwrap();
    hold(limiter.clone(), &()).unwrap().end(Outcome::Success);
    let line = limiter.wait_up_to(7_200 * SECOND);
    let retry = Retry::builder("retry").backoff(Backoff::constant(10 * SECOND));
    let retry = retry.budget(Budget::unlimited()).max_wait(10 * SECOND);
    let retry = retry.build().unwrap();
    for form in ALL {
        let queue = queue.clone();
        let in_queue: Inside = Rc::new(move || {
            let queue = queue.clone();
            Box::pin(async move { queue.run(async || Ok(Said::Success)).await })
        });
        assert!(!opens(form, in_queue, 60, left).await, "a queue, {form:?}");
        let line = line.clone();
        let in_line: Inside = Rc::new(move || {
            let line = line.clone();
            Box::pin(async move { line.run(async || Ok(Said::Success)).await })
        });
        assert!(!opens(form, in_line, 60, left).await, "a line, {form:?}");
        let retry = retry.clone();
        let in_backoff: Inside = Rc::new(move || {
            let retry = retry.clone();
            Box::pin(async move {
                let failed = async || {
                    sleep(20 * MS).await;
                    Err(Error::Service(io::Error::other("gone")))
                };
                retry.run(failed).await
            })
        });
        assert!(
            !opens(form, in_backoff, 60, left).await,
            "a backoff, {form:?}"
        );
        assert!(opens(form, hangs(), 60, is_over).await, "a hang, {form:?}");
        // Another has begun to load it.
        let cache: Cache<u32> = Cache::builder("items").build().unwrap();
        let load = async || pending::<Result<u32, Fails>>().await;
        let leader = cache.clone();
        let leader = tokio::spawn(async move { leader.run("7", load).await.map(drop) });
        tokio::task::yield_now().await;
        let in_load = loads_in(cache);
        assert!(!opens(form, in_load, 40, left).await, "a load, {form:?}");
        leader.abort();
        // Another instance has.
        let cache = Cache::builder("items").store(Elsewhere).build().unwrap();
        let in_load = loads_in(cache);
        assert!(!opens(form, in_load, 40, left).await, "elsewhere, {form:?}");
    }
}

/// Asks a cache for what somebody else is loading.
fn loads_in<St: Store<u32>>(cache: Cache<u32, St>) -> Inside {
    Rc::new(move || {
        let cache = cache.clone();
        let load = async || pending::<Result<u32, Fails>>().await;
        Box::pin(async move { cache.run("7", load).await.map(|_| Said::Success) })
    })
}

/// A store of which another instance has the lease.
struct Elsewhere;

impl Store<u32> for Elsewhere {
    type Lease = ();

    fn peek(&self, _: KeyRef<'_>, _: &Now) -> Option<Hit<u32>> {
        None
    }
    async fn acquire(
        &self,
        _: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<u32, ()>, StoreError> {
        sleep(MS).await;
        let (lasts, known) = (ask.lease, None);
        Ok(Acquired::Busy { lasts, known })
    }
    async fn fill(&self, _: &EntryKey, (): &(), _: Fill<u32>) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn release(&self, _: &EntryKey, (): ()) -> Result<(), StoreError> {
        Ok(())
    }
    async fn look(&self, _: &EntryKey) -> Result<Option<Entry<u32>>, StoreError> {
        Ok(None)
    }
    async fn invalidate(&self, _: &EntryKey, _: InvalidationMode) -> Result<(), StoreError> {
        Ok(())
    }
    async fn invalidate_tag(&self, _: &str, _: InvalidationMode) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_a_slow_call_says_nothing_of_callers_who_leave() {
    for form in ALL {
        let breaker = CircuitBreaker::builder("search").slow_call_duration(MS);
        let breaker = breaker.build().unwrap();
        for _ in 0..60 {
            let left = form.call(breaker.clone(), says(Said::Success, 400 * MS));
            assert!(tokio::time::timeout(300 * MS, left).await.is_err());
        }
        let seen = breaker.snapshot();
        assert_eq!(
            (seen.state, seen.failures_total),
            (State::Closed, 0),
            "{form:?}"
        );
        assert_eq!(seen.slow_calls_total, 0, "{form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_on_one_route_leaves_the_limit_of_all_routes_alone() {
    for form in ALL.into_iter().chain(PROCESSES) {
        let shed = LoadShed::new("all routes");
        let breaker = CircuitBreaker::new("one route");
        breaker.force_open();
        let broken: Inside = Rc::new(move || {
            let breaker = breaker.clone();
            Box::pin(async move { breaker.run(async || Ok(Said::Success)).await })
        });
        let well = says(Said::Success, 5 * MS);
        let tasks = LocalSet::new();
        let answered = Rc::new(Cell::new(0));
        for n in 0..1_000 {
            let (shed, answered) = (shed.clone(), answered.clone());
            let (broken, well) = (broken.clone(), well.clone());
            tasks.spawn_local(async move {
                sleep(n * MS).await;
                for _ in 0..3 {
                    let _ = form.call(shed.clone(), broken.clone()).await;
                }
                let call = form.call(shed, well).await;
                answered.set(answered.get() + u32::from(call.is_ok()));
            });
        }
        tasks.await;
        assert_eq!(answered.get(), 1_000, "{form:?}");
        assert!(shed.snapshot().limit >= 20, "{form:?}: {shed:?}");
    }
}
