#![cfg(feature = "retry")]
#![allow(missing_docs)]

use buttress::{
    Error, Guard, GuardLayer, Kind, Now, Outcome, Policy, Rejected, context,
    guard::{Admission, End, Never, Step},
    retry::{Attempt, Backoff, Budget, CloneRequest, Hint, Jitter, Pushback, Replay, Retry},
};
use futures::FutureExt;
use proptest::prelude::*;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

type Answer = Result<&'static str, Error<&'static str>>;
const MS: Duration = Duration::from_millis(1);
const BUSY: Answer = Err(Error::Service("busy"));

fn exact(initial: Duration) -> Backoff {
    Backoff::exponential(initial).jitter(Jitter::None)
}

/// Answers in turn, the last one for ever, and writes down when it was called.
#[derive(Clone)]
struct Script(Arc<(Vec<Answer>, Mutex<Vec<Instant>>)>);

impl Script {
    fn new(answers: impl Into<Vec<Answer>>) -> Self {
        Self(Arc::new((answers.into(), Mutex::default())))
    }
    fn calls(&self) -> Vec<Instant> {
        self.0.1.lock().unwrap().clone()
    }
    fn answer(&self) -> Answer {
        let mut calls = self.0.1.lock().unwrap();
        let answer = self.0.0.get(calls.len()).or(self.0.0.last());
        calls.push(Instant::now());
        *answer.unwrap()
    }
    fn waits(&self) -> Vec<u128> {
        let calls = self.calls();
        calls
            .windows(2)
            .map(|w| (w[1] - w[0]).as_millis())
            .collect()
    }
    fn service(
        &self,
    ) -> impl Service<u32, Response = &'static str, Error = Error<&'static str>, Future: Send>
    + Clone
    + Send
    + 'static {
        let script = self.clone();
        service_fn(move |_| std::future::ready(script.answer()))
    }
}

// case 21
#[tokio::test(start_paused = true)]
async fn the_first_call_is_an_attempt() {
    for (attempts, calls) in [(1, 1), (2, 2), (5, 5)] {
        let retry = Retry::builder("api").attempts(attempts).build().unwrap();
        let script = Script::new([BUSY]);
        let answer = retry.layer().layer(script.service()).oneshot(0).await;
        assert_eq!((answer, script.calls().len()), (BUSY, calls));
        let seen = retry.snapshot();
        assert_eq!((seen.retries, seen.gave_up), (calls as u64 - 1, 1));
        assert_eq!(seen.failed_attempts, calls as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_by_the_multiplier_and_a_success_ends_them() {
    let retry = Retry::builder("api")
        .attempts(9)
        .backoff(exact(500 * MS))
        .build()
        .unwrap();
    let script = Script::new([BUSY, BUSY, BUSY, Ok("done")]);
    let answer = retry.layer().layer(script.service()).oneshot(0).await;
    assert_eq!(answer, Ok("done"));
    assert_eq!(script.waits(), [500, 1_000, 2_000]);
}

// case 22
#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_makes_no_further_call_and_gives_its_retry_back() {
    let budget = Budget::builder().cap(2).floor(0).build().unwrap();
    let retry = Retry::builder("api")
        .budget(budget.clone())
        .backoff(exact(1_000 * MS));
    let retry = retry.build().unwrap();
    let script = Script::new([BUSY]);
    let mut call = task::spawn(retry.layer().layer(script.service()).oneshot(0));
    assert_pending!(call.poll());
    assert_eq!(
        budget.balance(),
        1.0,
        "a caller that waits has been counted"
    );
    drop(call);
    tokio::time::sleep(5_000 * MS).await;
    assert_eq!((script.calls().len(), budget.balance()), (1, 2.0));
    assert_eq!(retry.snapshot().retries, 0);

    let run = retry.run(async || script.answer());
    assert!(run.now_or_never().is_none());
    assert_eq!((script.calls().len(), budget.balance()), (2, 2.0));
}

// case 23
#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn no_attempt_is_waited_for_that_would_start_after_the_deadline() {
    use buttress::timeout::Deadline;
    let retry = Retry::builder("api")
        .attempts(9)
        .backoff(exact(600 * MS))
        .build()
        .unwrap();
    let script = Script::new([BUSY]);
    let start = Instant::now();
    let call = retry.layer().layer(script.service()).oneshot(0);
    let answer = Deadline::within(1_000 * MS).scope(call).await;
    assert_eq!((answer, script.waits()), (BUSY, vec![600]));
    assert_eq!(
        start.elapsed(),
        600 * MS,
        "it did not wait for what it would not do"
    );
    // The second retry was not paid for.
    assert_eq!(
        (retry.snapshot().balance, retry.snapshot().gave_up),
        (9.0, 1)
    );

    let answer = Deadline::within(Duration::ZERO).scope(retry.run(async || script.answer()));
    assert_eq!(answer.await, BUSY);
    assert_eq!(script.calls().len(), 3);
}

// case 25
#[test]
fn a_wait_of_zero_sets_no_timer() {
    // There is no runtime that could make one.
    let retry = Retry::builder("api").backoff(Backoff::constant(Duration::ZERO));
    let retry = retry.build().unwrap();
    let script = Script::new([BUSY, Ok("done")]);
    let call = retry.layer().layer(script.service()).oneshot(0);
    assert_eq!(call.now_or_never(), Some(Ok("done")));
    let script = Script::new([BUSY, Ok("done")]);
    assert_eq!(
        retry.run(async || script.answer()).now_or_never(),
        Some(Ok("done"))
    );
}

// case 26
#[test]
fn an_empty_budget_returns_the_real_error_without_a_wait() {
    let budget = Budget::builder().cap(0).floor(0).build().unwrap();
    let retry = Retry::builder("api").budget(budget).build().unwrap();
    let script = Script::new([BUSY]);
    let call = retry.layer().layer(script.service()).oneshot(0);
    assert_eq!(call.now_or_never(), Some(BUSY));
    assert_eq!(
        retry.run(async || script.answer()).now_or_never(),
        Some(BUSY)
    );
    let seen = retry.snapshot();
    assert_eq!(
        (script.calls().len(), seen.retries, seen.budget_exhausted),
        (2, 0, 2)
    );
}

// case 27
#[tokio::test(start_paused = true)]
async fn of_a_thousand_that_fail_at_once_no_more_come_back_than_were_paid_for() {
    let budget = Budget::builder()
        .ratio(0.2)
        .cap(200)
        .floor(0)
        .build()
        .unwrap();
    let retry = Retry::builder("api")
        .budget(budget.clone())
        .backoff(exact(100 * MS));
    let retry = retry.build().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let layered = retry.layer().layer(service_fn(move |_: ()| {
        count.fetch_add(1, SeqCst);
        async { BUSY }
    }));
    let all = (0..1_000).map(|_| layered.clone().oneshot(()));
    let answers = futures::future::join_all(all).await;
    assert!(answers.iter().all(|answer| *answer == BUSY));
    assert_eq!((calls.load(SeqCst), budget.balance()), (1_200, 0.0));
}

fn overloaded(after: Duration) -> impl Fn(Result<&&str, &Error<&str>>) -> Outcome + Clone {
    move |result| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Overloaded {
            retry_after: Some(after),
        },
    }
}

// case 28
#[tokio::test(start_paused = true)]
async fn a_service_is_never_called_before_it_asked_to_be_and_its_callers_are_spread() {
    let mut seen = Vec::new();
    for seed in 0..200 {
        let retry = Retry::builder("api").seed(seed).build().unwrap();
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.layer().classify(overloaded(5_000 * MS));
        assert_eq!(layer.layer(script.service()).oneshot(0).await, Ok("done"));
        assert!(
            retry.snapshot().balance <= 9.1,
            "it costs what any retry does"
        );
        seen.extend(script.waits());
    }
    let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    assert!((5_000..5_050).contains(least), "{least}");
    assert!((5_450..=5_501).contains(most), "{most}");
}

// case 28
#[tokio::test(start_paused = true)]
async fn a_service_that_wants_to_be_left_alone_for_too_long_is() {
    let retry = Retry::builder("api")
        .max_retry_after(30_000 * MS)
        .build()
        .unwrap();
    for (after, calls) in [(30_000 * MS, 2), (30_001 * MS, 1), (Duration::MAX, 1)] {
        let script = Script::new([BUSY, Ok("done")]);
        let layer = retry.layer().classify(overloaded(after));
        let _ = layer.layer(script.service()).oneshot(0).await;
        assert_eq!(script.calls().len(), calls, "{after:?}");
    }
    assert_eq!(retry.snapshot().gave_up, 2);
}

/// A strategy that reads pushback out of the error's text.
#[derive(Clone)]
struct Told;
impl<Req: Clone> Replay<Req> for Told {
    type Request = Req;
    type Kept = Req;
    fn first(&self, req: Req) -> (Req, Option<Req>) {
        CloneRequest.first(req)
    }
    fn again(&self, kept: &mut Req, attempt: u32) -> Option<Req> {
        CloneRequest.again(kept, attempt)
    }
}
impl Pushback<&str, Error<&str>> for Told {
    fn hint(&self, result: Result<&&str, &Error<&str>>) -> Hint {
        match result {
            Err(Error::Service("in 70")) => Hint::Exactly(70 * MS),
            Err(Error::Service("never")) => Hint::Stop,
            _ => Hint::None,
        }
    }
}

// case 29
#[tokio::test(start_paused = true)]
async fn pushback_is_kept_to_exactly_and_restarts_the_backoff_or_stops_it() {
    let retry = Retry::builder("api")
        .attempts(9)
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let pushed = Err(Error::Service("in 70"));
    let never = Err(Error::Service("never"));
    let script = Script::new([BUSY, BUSY, BUSY, pushed, BUSY, BUSY, never, Ok("done")]);
    let answer = retry
        .layer()
        .replay(Told)
        .layer(script.service())
        .oneshot(0)
        .await;
    assert_eq!(answer, never);
    assert_eq!(script.waits(), [10, 20, 40, 70, 10, 20]);
}

/// A guard that refuses everything.
struct Shut(Kind);
impl Policy for Shut {
    type Permit = ();
    type Wait = Never;
    fn settle(&self, (): (), _: End, _: &Now) {}
    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
}
impl<Req> Guard<Req> for Shut {
    fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
        Admission::Refused(Rejected::new(self.0, "shut").with_retry_after(MS))
    }
    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut std::task::Context<'_>,
        _: &Now,
    ) -> Step<()> {
        match *wait {}
    }
}

// case 30
#[test]
fn a_rejection_from_below_is_passed_on_and_costs_nothing() {
    for kind in [
        Kind::CircuitOpen,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Throttled,
        Kind::DeadlineExceeded,
        Kind::NotReady,
    ] {
        let retry = Retry::new("api");
        let script = Script::new([Ok("never called")]);
        let guarded = GuardLayer::new(Shut(kind)).layer(script.service());
        let answer = retry
            .layer()
            .layer(guarded)
            .oneshot(0)
            .now_or_never()
            .unwrap();
        assert!(
            matches!(answer, Err(Error::Rejected(r)) if r.kind() == kind),
            "{kind}"
        );
        let seen = retry.snapshot();
        assert_eq!(
            (seen.failed_attempts, seen.retries, seen.gave_up),
            (0, 0, 0)
        );
        assert_eq!((seen.balance, script.calls().len()), (10.0, 0));

        let shut = Shut(kind);
        let run = retry.run(async || {
            let inside = async || Ok::<_, Error<&str>>("never called");
            buttress::guard::run(&shut, &(), inside).await
        });
        assert!(matches!(run.now_or_never(), Some(Err(Error::Rejected(_)))));
        assert_eq!(retry.snapshot().balance, 10.0);
    }
}

#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_is_retried() {
    use buttress::timeout::Timeout;
    let retry = Retry::builder("api")
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let timeout = Timeout::new("attempt", 100 * MS);
    let calls = AtomicU32::new(0);
    let hang_once = async || match calls.fetch_add(1, SeqCst) {
        0 => std::future::pending().await,
        _ => Ok("done"),
    };
    let start = Instant::now();
    let answer: Answer = retry.run(async || timeout.run(hang_once).await).await;
    assert_eq!((answer, calls.load(SeqCst)), (Ok("done"), 2));
    assert!((110..115).contains(&start.elapsed().as_millis()));

    // The last attempt's timeout is the answer.
    let hang = async || std::future::pending::<Answer>().await;
    let answer = retry.run(async || timeout.run(hang).await).await;
    assert!(matches!(answer, Err(Error::Rejected(r)) if r.kind() == Kind::TimedOut));
    assert_eq!(timeout.snapshot().timed_out, 4);
}

#[test]
fn neither_a_success_nor_what_says_nothing_is_retried() {
    let retry = Retry::new("api");
    for outcome in [Outcome::Success, Outcome::Ignored] {
        let script = Script::new([BUSY]);
        let layer = retry
            .layer()
            .classify(move |_: Result<&&str, &Error<&str>>| outcome);
        let answer = layer.layer(script.service()).oneshot(0).now_or_never();
        assert_eq!((answer, script.calls().len()), (Some(BUSY), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_can_be_a_failure() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let script = Script::new([Ok("oops"), Ok("done")]);
    let oops = |result: Result<&&str, &Error<&str>>| match result {
        Ok(&"oops") => Outcome::Failure,
        _ => Outcome::Success,
    };
    let layer = retry.layer().classify(oops);
    assert_eq!(layer.layer(script.service()).oneshot(0).await, Ok("done"));
    let script = Script::new([Ok("oops"), Ok("done")]);
    assert_eq!(
        retry.run_classified(oops, async || script.answer()).await,
        Ok("done")
    );
}

#[tokio::test(start_paused = true)]
async fn every_attempt_waits_for_its_service_to_be_ready() {
    let retry = Retry::builder("api")
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let (mut service, mut handle) = mock::spawn_with(|inner: mock::Mock<u32, &'static str>| {
        let inner = inner.map_err(|_| Error::Service("closed"));
        retry.layer().layer(inner)
    });
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    assert_request_eq!(handle, 7).send_error("busy");
    assert_pending!(call.poll());
    tokio::time::sleep(20 * MS).await;
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert!(
        handle.poll_request().is_pending(),
        "called a service that was not ready"
    );
    assert_eq!(retry.snapshot().retries, 0);
    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_request_eq!(handle, 7).send_response("done");
    assert_eq!(assert_ready_ok!(call.poll()), "done");
    assert_eq!(retry.snapshot().retries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_before_the_next_attempt_costs_no_retry() {
    let retry = Retry::builder("api")
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let (mut service, mut handle) = mock::spawn_with(|inner: mock::Mock<u32, &'static str>| {
        retry
            .layer()
            .layer(inner.map_err(|_| Error::Service("closed")))
    });
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    assert_request_eq!(handle, 7).send_error("busy");
    assert_pending!(call.poll());
    handle.send_error("broken");
    tokio::time::sleep(20 * MS).await;
    assert_eq!(assert_ready_err!(call.poll()), Error::Service("closed"));
    drop(call);
    assert_eq!(
        (retry.snapshot().balance, retry.snapshot().retries),
        (10.0, 0)
    );
}

#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_is_waited_for_until_the_deadline() {
    use buttress::timeout::Deadline;
    let retry = Retry::builder("api")
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let (mut service, mut handle) = mock::spawn_with(|inner: mock::Mock<u32, &'static str>| {
        retry
            .layer()
            .layer(inner.map_err(|_| Error::Service("busy")))
    });
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let start = Instant::now();
    let scoped = Deadline::within(100 * MS).scope(async { service.call(7).await });
    let fail = async { assert_request_eq!(handle, 7).send_error("busy") };
    let (answer, ()) = futures::join!(scoped, fail);
    let Err(Error::Rejected(rejected)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
    assert!(rejected.reached_service());
    assert!((100..103).contains(&start.elapsed().as_millis()));
    assert_eq!(retry.snapshot().balance, 10.0);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_the_attempt_is_in_the_context_of_calls_and_polls() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let service = service_fn(move |()| {
        let in_call = context::current().attempt;
        let note = Arc::clone(&note);
        async move {
            tokio::task::yield_now().await;
            note.lock()
                .unwrap()
                .push((in_call, context::current().attempt));
            BUSY
        }
    });
    let _ = retry.layer().layer(service).oneshot(()).await;
    assert_eq!(*seen.lock().unwrap(), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(context::current().attempt, 1);
    seen.lock().unwrap().clear();
    let _ = retry
        .run(async || {
            seen.lock().unwrap().push((0, context::current().attempt));
            BUSY
        })
        .await;
    assert_eq!(*seen.lock().unwrap(), [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(Attempt(2), Attempt(2));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_loses_no_retry() {
    let retry = Retry::builder("api").backoff(exact(MS)).build().unwrap();
    let asked = AtomicU32::new(0);
    let layer = retry
        .layer()
        .classify(move |_: Result<&&str, &Error<&str>>| {
            assert!(asked.fetch_add(1, SeqCst) == 0, "boom");
            Outcome::Failure
        });
    let script = Script::new([BUSY]);
    let call = layer.layer(script.service()).oneshot(0);
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    // One retry was made and spent; nothing is owed.
    assert_eq!((script.calls().len(), retry.snapshot().balance), (2, 9.0));
    let again = retry
        .layer()
        .layer(Script::new([Ok("done")]).service())
        .oneshot(0);
    assert_eq!(again.await, Ok("done"));
    assert_eq!(context::current().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_handle_share_its_budget_and_so_do_handles_of_one_budget() {
    let budget = Budget::builder().cap(3).floor(0).build().unwrap();
    let one = Retry::builder("one")
        .budget(budget.clone())
        .build()
        .unwrap();
    let two = Retry::builder("two")
        .budget(budget.clone())
        .build()
        .unwrap();
    for retry in [&one, &one.clone(), &two] {
        let script = Script::new([BUSY]);
        let _ = retry.layer().layer(script.service()).oneshot(0).await;
    }
    assert_eq!((one.snapshot().retries, two.snapshot().retries), (3, 0));
    assert_eq!(
        (two.snapshot().budget_exhausted, budget.balance()),
        (1, 0.0)
    );
}

#[test]
fn a_call_that_succeeds_at_once_allocates_nothing_and_needs_no_timer() {
    let retry = Retry::new("api");
    let mut service = retry
        .layer()
        .layer(service_fn(async |n: u32| Ok::<_, Error<()>>(n)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut call = std::pin::pin!(service.call(1));
        assert_eq!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
    };
    call();
    assert_eq!(allocation_counter::measure(call).count_total, 0);
    assert_eq!(retry.snapshot().failed_attempts, 0);
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    let retry = Retry::new("api");
    let run = async move { retry.run(async || Ok::<_, Error<()>>(1)).await };
    assert_eq!(tokio::spawn(run).await.unwrap(), Ok(1));
}

#[test]
fn terms_that_could_not_work_are_refused() {
    let field = |builder: buttress::retry::Builder| builder.build().unwrap_err().field();
    let builder = || Retry::builder("api");
    assert_eq!(field(builder().attempts(0)), "attempts");
    let shrinking = Backoff::default().multiplier(0.5);
    assert_eq!(field(builder().backoff(shrinking)), "multiplier");
    let over = Backoff::exponential(2 * MS).max(MS);
    assert_eq!(field(builder().backoff(over)), "initial");
    let extreme = builder().attempts(u32::MAX).max_retry_after(Duration::MAX);
    let extreme = extreme.backoff(Backoff::exponential(Duration::MAX)).build();
    assert_eq!(extreme.unwrap().name(), "api");
}

#[cfg(feature = "timeout")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_attempts_together_never_pass_the_deadline(
        deadline in 1_u64..3_000, attempt in 0_u64..900, initial in 0_u64..900, seed: u64,
    ) {
        use buttress::timeout::DeadlineLayer;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let ms = Duration::from_millis;
            let budget = Budget::builder().cap(100).build().unwrap();
            let backoff = Backoff::exponential(ms(initial)).max(ms(5_000));
            let retry = Retry::builder("api").attempts(50).seed(seed);
            let retry = retry.backoff(backoff).budget(budget).build().unwrap();
            let start = Instant::now();
            let service = service_fn(move |()| async move {
                assert!(start.elapsed() < ms(deadline), "started when nobody waited");
                tokio::time::sleep(ms(attempt)).await;
                BUSY
            });
            let stack = DeadlineLayer::within("all", ms(deadline)).layer(retry.layer().layer(service));
            let answer = stack.oneshot(()).await;
            assert!(answer.is_err());
            // A millisecond is what tokio's timers are good for.
            assert!(start.elapsed() <= ms(deadline + 1), "{:?}", start.elapsed());
        });
    }
}
