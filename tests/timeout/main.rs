#![cfg(feature = "timeout")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them, and ask a clock how long something took.
#![allow(
    clippy::async_yields_async,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used
)]

mod defaults;
mod per_request;
mod readiness;

use buttress::{
    Error, Kind, Rejected, Time, context,
    timeout::{Deadline, DeadlineLayer, Timeout},
};
use futures::FutureExt;
use std::{
    future::pending,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

type Answer = Result<&'static str, Error<&'static str>>;
const MS: Duration = Duration::from_millis(1);

fn rejected(answer: Answer) -> Rejected {
    match answer {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    }
}

async fn after(time: Duration) -> Answer {
    sleep(time).await;
    Ok("done")
}

/// Says when it is dropped.
struct Flag(Arc<AtomicBool>);
impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Says under which deadline it is dropped.
struct Tells(Arc<Mutex<Option<Deadline>>>);
impl Drop for Tells {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = Deadline::current();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_under_a_deadline_is_dropped_under_it_whoever_drops_it() {
    for (patience, over) in [(0, false), (1, false), (0, true)] {
        let dropped = Arc::<Mutex<Option<Deadline>>>::default();
        let hangs = service_fn(async |tells: Tells| {
            let _tells = tells;
            pending::<Answer>().await
        });
        let layer = DeadlineLayer::within("api", 100 * MS);
        let deadline = Deadline::within(100 * MS);
        let mut service = layer.layer(hangs);
        let mut call = task::spawn(service.call(Tells(Arc::clone(&dropped))));
        for _ in 0..patience {
            assert_pending!(call.poll());
        }
        if over {
            assert_pending!(call.poll());
            advance(101 * MS).await;
            assert_eq!(
                rejected(call.await).kind(),
                Kind::DeadlineExceeded,
                "dropped at its deadline"
            );
        } else {
            drop(call);
        }
        assert_eq!(*dropped.lock().unwrap(), Some(deadline));
        assert_eq!(Deadline::current(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_cancelled_before_its_caller_hears_of_it() {
    let timeout = Timeout::new("api", 100 * MS);
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let service = service_fn(move |()| {
        let flag = Flag(Arc::clone(&flag));
        async move {
            let _flag = flag;
            pending::<Answer>().await
        }
    });
    let start = Instant::now();
    let mut call = Box::pin(timeout.layer().layer(service).oneshot(()));
    // Polled by reference: what is dropped is the call, and not because its future is.
    let rejected = rejected((&mut call).await);
    assert!(dropped.load(SeqCst));
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (Kind::TimedOut, "api")
    );
    assert!(rejected.reached_service());
    assert!((100..102).contains(&start.elapsed().as_millis()));
    let seen = timeout.snapshot();
    assert_eq!(
        (
            seen.timed_out_total,
            seen.deadline_exceeded_total,
            seen.limit
        ),
        (1, 0, 100 * MS)
    );
    assert_eq!(timeout.clone().snapshot(), seen);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_keeps_its_answer_or_its_error() {
    let timeout = Timeout::new("api", 100 * MS);
    assert_eq!(timeout.run(async || after(99 * MS).await).await, Ok("done"));
    let fail = async || Err::<&str, _>(Error::Service("boom"));
    assert_eq!(timeout.run(fail).await, Err(Error::Service("boom")));
    // At the very limit the answer is there, so it is given.
    assert_eq!(
        timeout.run(async || after(100 * MS).await).await,
        Ok("done")
    );
    assert_eq!(timeout.snapshot().timed_out_total, 0);
}

#[tokio::test(start_paused = true)]
async fn zero_lets_through_what_does_not_wait_and_the_maximum_lets_through_all() {
    let none = Timeout::new("none", Duration::ZERO);
    assert_eq!(
        none.run(async || Answer::Ok("at once")).await,
        Ok("at once")
    );
    let answer = none.run(async || after(MS).await).now_or_never();
    assert_eq!(rejected(answer.unwrap()).kind(), Kind::TimedOut);

    let all = Timeout::new("all", Duration::MAX);
    let year = Duration::from_secs(365 * 86_400);
    assert_eq!(all.run(async || after(year).await).await, Ok("done"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_caller_drops_is_not_a_timeout() {
    let timeout = Timeout::new("api", 100 * MS);
    let mut call = task::spawn(timeout.run(async || after(500 * MS).await));
    assert_pending!(call.poll());
    drop(call);
    drop(timeout.run(async || after(500 * MS).await));
    advance(1_000 * MS).await;
    let late = tokio::time::timeout(50 * MS, timeout.run(async || pending::<Answer>().await));
    assert!(late.await.is_err());
    assert_eq!(timeout.snapshot().timed_out_total, 0);
}

#[test]
fn a_call_that_ends_at_once_allocates_nothing_and_needs_no_timer() {
    // There is no runtime that could make one.
    let timeout = Timeout::new("api", 100 * MS);
    let mut service = timeout
        .layer()
        .layer(service_fn(async |n: u32| Ok::<_, Error<()>>(n)));
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut call = std::pin::pin!(service.call(1));
        assert_eq!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
    };
    call();
    assert_eq!(allocation_counter::measure(call).count_total, 0);
}

#[tokio::test]
async fn a_call_that_never_leaves_its_task_any_budget_is_cut_off_all_the_same() {
    let timeout = Timeout::new("api", 20 * MS);
    let busy = async || loop {
        tokio::task::consume_budget().await;
    };
    let answer: Answer = timeout.run(busy).await;
    assert_eq!(rejected(answer).kind(), Kind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn the_sooner_of_timeout_and_deadline_counts() {
    let timeout = Timeout::new("api", 100 * MS);
    let slow = || timeout.run(async || after(500 * MS).await);
    let soon = rejected(Deadline::within(40 * MS).scope(slow()).await);
    assert_eq!(
        (soon.kind(), soon.policy()),
        (Kind::DeadlineExceeded, "api")
    );
    assert!(soon.reached_service());
    let late = rejected(Deadline::within(140 * MS).scope(slow()).await);
    assert_eq!(late.kind(), Kind::TimedOut);
    let seen = timeout.snapshot();
    assert_eq!((seen.timed_out_total, seen.deadline_exceeded_total), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_is_gone_does_not_reach_the_service() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let service = service_fn(move |()| {
        count.fetch_add(1, SeqCst);
        async { Answer::Ok("done") }
    });
    let timeout = Timeout::new("api", 100 * MS);
    let past = Deadline::within(Duration::ZERO);
    let within = DeadlineLayer::within("all", 100 * MS);
    for answer in [
        past.scope(timeout.layer().layer(service.clone()).oneshot(()))
            .await,
        past.scope(within.layer(service.clone()).oneshot(())).await,
        DeadlineLayer::within("none", Duration::ZERO)
            .layer(service)
            .oneshot(())
            .await,
        past.scope(timeout.run(async || panic!("called"))).await,
    ] {
        let rejected = rejected(answer);
        assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
        assert!(!rejected.reached_service());
    }
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_there_in_calls_and_polls_and_only_there() {
    let in_call = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&in_call);
    let service = service_fn(move |()| {
        count.fetch_add(u32::from(Deadline::current().is_some()), SeqCst);
        async {
            let before = Deadline::current().unwrap();
            assert_eq!(before.remaining(), 100 * MS);
            sleep(30 * MS).await;
            assert_eq!(Deadline::current(), Some(before));
            assert!(before.remaining() <= 70 * MS);
            Answer::Ok("done")
        }
    });
    let layer = DeadlineLayer::within("all", 100 * MS);
    let mut call = task::spawn(layer.layer(service).oneshot(()));
    assert_pending!(call.poll());
    assert_eq!(Deadline::current(), None, "between polls it is nobody's");
    assert_eq!(call.await, Ok("done"));
    assert_eq!((in_call.load(SeqCst), Deadline::current()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_only_ever_gets_nearer() {
    let near = Deadline::within(50 * MS);
    let far = Deadline::within(500 * MS);
    let never = Deadline::at(Time::from_nanos(u64::MAX));
    let inside = far.scope(never.scope(async { Deadline::current() }));
    assert_eq!(near.scope(inside).await, Some(near));
    let inside = near.scope(async { Deadline::current() });
    assert_eq!(far.scope(inside).await, Some(near));
    assert_eq!(never.scope(async { Deadline::current() }).await, None);

    let loose = DeadlineLayer::within("loose", 500 * MS);
    let start = Instant::now();
    let call = loose.layer(service_fn(|()| after(5_000 * MS))).oneshot(());
    let rejected = rejected(near.scope(call).await);
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (Kind::DeadlineExceeded, "loose")
    );
    assert!((50..52).contains(&start.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cuts_a_call_off_and_says_that_it_was_made() {
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let service = service_fn(move |()| {
        let flag = Flag(Arc::clone(&flag));
        async move {
            let _flag = flag;
            pending::<Answer>().await
        }
    });
    let layer = DeadlineLayer::within("all", 100 * MS);
    let mut call = Box::pin(layer.layer(service).oneshot(()));
    let rejected = rejected((&mut call).await);
    assert!(dropped.load(SeqCst) && rejected.reached_service());
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_has_the_deadline_it_is_given() {
    let deadline = Deadline::within(100 * MS);
    let (without, with) = deadline
        .scope(async {
            let without = tokio::spawn(async { Deadline::current() });
            let with = tokio::spawn(deadline.scope(async { Deadline::current() }));
            (without.await.unwrap(), with.await.unwrap())
        })
        .await;
    assert_eq!((without, with), (None, Some(deadline)));
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_to_the_deadline_of_its_caller_wherever_it_is_polled() {
    let timeout = Timeout::new("api", 1_000 * MS);
    let service = timeout.layer().layer(service_fn(|()| after(500 * MS)));
    let call = Deadline::within(100 * MS)
        .scope(async move {
            let mut service = service;
            service.ready().await.unwrap().call(())
        })
        .await;
    let answer = tokio::spawn(call).await.unwrap();
    assert_eq!(rejected(answer).kind(), Kind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_panic_passes_through_and_leaves_no_deadline_behind() {
    let layer = DeadlineLayer::within("all", 100 * MS);
    let service = layer.layer(service_fn(async |()| -> Answer { panic!("boom") }));
    let call = AssertUnwindSafe(service.oneshot(()));
    assert!(call.catch_unwind().await.is_err());
    assert_eq!(context::current().deadline, None);
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    let timeout = Timeout::new("api", 1_000 * MS);
    let run = async move { timeout.run(async || Answer::Ok("done")).await };
    assert_eq!(tokio::spawn(run).await.unwrap(), Ok("done"));
}

/// The price of a call that ends at its first poll and pays nothing.
#[tokio::test(start_paused = true)]
async fn the_time_counts_from_when_the_call_is_first_pending() {
    let timeout = Timeout::new("api", 100 * MS);
    let busy_at_first = |later: Duration| {
        timeout.run(async move || {
            // Sets the clock ahead within the first poll.
            assert!(advance(90 * MS).now_or_never().is_none());
            after(later).await
        })
    };
    assert_eq!(busy_at_first(90 * MS).await, Ok("done"));
    assert_eq!(
        rejected(busy_at_first(110 * MS).await).kind(),
        Kind::TimedOut
    );
}
