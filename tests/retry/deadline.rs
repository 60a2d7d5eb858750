//! What deadlines and timeouts do to them.

use crate::support::*;
use buttress::{
    Error, ErrorsAsFailures, Guard, GuardBase, Kind, Now, Outcome, Rejected,
    guard::{self, Admission, End},
    retry::{Backoff, Budget, Retry},
};
use futures::future::LocalBoxFuture;
use proptest::prelude::*;
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};
use tokio::time::Instant;
use tokio_test::assert_ready_ok;
use tower::{Layer, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

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
    let call = retry
        .layer()
        .classify(ErrorsAsFailures)
        .layer(script.service())
        .oneshot(0);
    let answer = Deadline::within(1_000 * MS).scope(call).await;
    assert_eq!((answer, script.waits()), (BUSY, vec![600]));
    assert_eq!(
        start.elapsed(),
        600 * MS,
        "it did not wait for what it would not do"
    );
    // The second retry was not paid for.
    assert_eq!(
        (
            retry.snapshot().budget_balance,
            retry.snapshot().gave_up_total
        ),
        (9.0, 1)
    );

    let answer = Deadline::within(Duration::ZERO).scope(retry.run(async || script.answer()));
    assert_eq!(answer.await, BUSY);
    assert_eq!(script.calls().len(), 3);
}

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
            .classify(ErrorsAsFailures)
            .layer(inner.map_err(|_| Error::Service("busy")))
    });
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let start = Instant::now();
    let scoped = Deadline::within(100 * MS).scope(async { service.call(7).await });
    let fail = async { assert_request_eq!(handle, 7).send_error("busy") };
    let (answer, ()) = futures::join!(scoped, fail);
    assert_eq!(answer, Err(Error::Service("busy")), "what really failed");
    assert!((100..103).contains(&start.elapsed().as_millis()));
    assert_eq!(retry.snapshot().budget_balance, 10.0);
}

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
            let stack = DeadlineLayer::within("all", ms(deadline)).layer(retry.layer().classify(ErrorsAsFailures).layer(service));
            let answer = stack.oneshot(()).await;
            assert!(answer.is_err());
            // A millisecond is what tokio's timers are good for.
            assert!(start.elapsed() <= ms(deadline + 1), "{:?}", start.elapsed());
        });
    }
}

// Tokio's timers fire on whole milliseconds, after the time that they were set to; and a busy runtime
// fires them later than that.
#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline_because_a_timer_was_late() {
    use buttress::timeout::Deadline;
    let us = Duration::from_micros;
    let retry = Retry::builder("api").attempts(9);
    let retry = retry.backoff(exact(us(100_200))).build().unwrap();
    let script = Script::new([BUSY]);
    let layer = retry.layer().classify(ErrorsAsFailures);
    let layered = layer.layer(script.service()).oneshot(0);
    let run = retry.run(async || script.answer());
    let calls: [LocalBoxFuture<'_, Answer>; 2] = [Box::pin(layered), Box::pin(run)];
    for (call, calls) in calls.into_iter().zip(1..) {
        let answer = Deadline::within(us(100_500)).scope(call).await;
        assert_eq!(answer, BUSY, "what really failed");
        assert_eq!(script.calls().len(), calls);
        let seen = retry.snapshot();
        assert_eq!(
            (seen.budget_balance, seen.gave_up_total),
            (10.0, calls as u64),
            "a retry that was not made is not paid for"
        );
    }

    // A response is let go of before the wait, with its connection.
    let retry = Retry::builder("api").backoff(exact(us(100_200)));
    let retry = retry.build().unwrap();
    let service = service_fn(async |()| Ok::<_, Error<&str>>(500));
    let failed = |result: Result<&i32, &Error<&str>>| match result {
        Ok(_) => Outcome::Failure,
        Err(_) => Outcome::Ignored,
    };
    let call = retry.layer().classify(failed).layer(service).oneshot(());
    let answer = Deadline::within(us(100_500)).scope(call).await;
    let Err(Error::Rejected(rejected)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
    assert!(rejected.reached_service());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_before_another_attempt_is_told_with_whose_it_is() {
    use buttress::timeout::Deadline;
    let us = Duration::from_micros;
    for by_caller in [false, true] {
        let operators = Deadline::within(us(100_500));
        let deadline = if by_caller {
            operators.of_caller()
        } else {
            operators
        };
        let retry = Retry::builder("api").backoff(exact(us(100_200)));
        let retry = retry.build().unwrap();
        let service = service_fn(async |()| Ok::<_, Error<&str>>(500));
        let failed = |_: Result<&i32, &Error<&str>>| Outcome::Failure;
        let call = retry.layer().classify(failed).layer(service).oneshot(());
        let answer = deadline.scope(call).await;
        let Err(Error::Rejected(rejected)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
        assert!(rejected.reached_service());
        assert_eq!(rejected.is_callers_limit(), by_caller);
    }
}

/// An error that does not tell whether it is a rejection.
#[derive(Debug)]
enum Opaque {
    Rejected(Rejected),
}

impl From<Rejected> for Opaque {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// A guard at which every call waits for good.
struct Shut;

impl GuardBase for Shut {
    type Permit = ();
    type Wait = ();
    fn settle(&self, (): (), _: End, _: &Now) {}
}

impl Guard<()> for Shut {
    fn admit(&self, (): &(), _: &Now) -> Admission<(), ()> {
        Admission::Wait(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_was_kept_for_the_wait_is_told_from_a_failure_when_it_is_the_answer() {
    use buttress::{
        CircuitBreaker,
        timeout::{Deadline, Timeout},
    };
    let us = Duration::from_micros;
    // The attempt's time is over before it is let in: the service was not asked.
    let timeout = Timeout::new("attempt", 50 * MS);
    let attempt = async || -> Result<(), Opaque> {
        let op = || guard::run(&Shut, &(), async || Ok::<_, Opaque>(()));
        timeout.run(op).await
    };
    let retry = Retry::builder("api").backoff(exact(us(100_200)));
    let retry = retry.build().unwrap();
    let service = service_fn(|()| attempt());
    let layered = retry.layer().classify(ErrorsAsFailures).layer(service);
    let calls: [LocalBoxFuture<'_, _>; 2] = [
        Box::pin(layered.oneshot(())),
        Box::pin(async { retry.run(&attempt).await }),
    ];
    for call in calls {
        let breaker = CircuitBreaker::new("api");
        let start = Instant::now();
        let call = async || Deadline::within(us(150_500)).scope(call).await;
        let Err(Opaque::Rejected(rejected)) = breaker.run(call).await else {
            panic!("let in")
        };
        assert_eq!(rejected.kind(), Kind::TimedOut);
        assert_eq!(
            start.elapsed(),
            151 * MS,
            "kept until the deadline had passed"
        );
        assert_eq!(breaker.snapshot().failures_total, 0);
    }
}

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
    assert_eq!(timeout.snapshot().timed_out_total, 4);
}
