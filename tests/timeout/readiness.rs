//! A service that is not ready is not waited for without end.

use buttress::{
    Error, ErrorsAsFailures, GuardLayer, Kind, LoadShed, Rejected, context,
    guard::{Admission, End, Guard, GuardBase, Never},
    timeout::{Deadline, DeadlineLayer, Timeout},
};
use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, advance, sleep};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);
type Failure = Error<&'static str>;

/// Ready this long after it is first asked, each clone for itself; its calls take as long again, if
/// they may.
struct Late {
    after: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    ready: bool,
}

impl Late {
    const fn after(after: Duration) -> Self {
        Self {
            after: Some(after),
            timer: None,
            ready: false,
        }
    }
    const fn never() -> Self {
        Self {
            after: None,
            timer: None,
            ready: false,
        }
    }
}

impl Clone for Late {
    fn clone(&self) -> Self {
        Self {
            after: self.after,
            timer: None,
            ready: false,
        }
    }
}

impl Service<()> for Late {
    type Response = ();
    type Error = Failure;
    type Future = Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(after) = self.after else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(after)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(self.ready, "called without being ready");
        (self.ready, self.timer) = (false, None);
        ready(Ok(()))
    }
}

fn rejected<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Rejected {
    match answer {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_ends_at_the_limit_call_after_call() {
    let timeout = Timeout::new("api", 1_000 * MS);
    let deadline = DeadlineLayer::within("all", 1_000 * MS);
    let mut timed = timeout.layer().layer(Late::never());
    let mut within = deadline.layer(Late::never());
    for _ in 0..3 {
        let start = Instant::now();
        let answer = timed.ready().await.unwrap().call(()).await;
        assert_eq!(rejected(answer).kind(), Kind::TimedOut);
        assert_eq!(start.elapsed().as_millis(), 1_000);

        let start = Instant::now();
        let rejected = rejected(within.ready().await.unwrap().call(()).await);
        assert_eq!(
            (
                rejected.kind(),
                rejected.policy(),
                rejected.reached_service()
            ),
            (Kind::DeadlineExceeded, "all", false)
        );
        assert_eq!(start.elapsed().as_millis(), 1_000);
    }
    assert_eq!(timeout.snapshot().timed_out_total, 3);
    assert_eq!(deadline.snapshot().exceeded_total, 3);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_too_late_is_not_called_and_one_in_time_has_what_is_left() {
    let start = Instant::now();
    let late = DeadlineLayer::within("all", 20 * MS).layer(Late::after(40 * MS));
    assert_eq!(
        rejected(late.oneshot(()).await).kind(),
        Kind::DeadlineExceeded
    );
    assert_eq!(start.elapsed().as_millis(), 20);

    let slow = |wait, work| {
        let work = tower::service_fn(move |()| async move {
            sleep(work).await;
            Ok::<_, Failure>(Deadline::current().map(Deadline::time))
        });
        tower::ServiceBuilder::new()
            .layer(Timeout::new("api", 100 * MS).layer())
            .layer_fn(move |inner| WaitsFirst(Late::after(wait), inner))
            .service(work)
    };
    assert!(slow(60 * MS, 30 * MS).oneshot(()).await.is_ok());
    let start = Instant::now();
    let cut = rejected(slow(60 * MS, 90 * MS).oneshot(()).await);
    assert_eq!((cut.kind(), cut.reached_service()), (Kind::TimedOut, true));
    assert_eq!(start.elapsed().as_millis(), 100);
}

/// Ready when the first is; the second is called.
struct WaitsFirst<S>(Late, S);

impl<S: Service<()>> Service<()> for WaitsFirst<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let _ = std::task::ready!(self.0.poll_ready(cx));
        self.1.poll_ready(cx)
    }

    fn call(&mut self, (): ()) -> S::Future {
        self.1.call(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_whoever_polls_bounds_the_wait_and_a_deadline_gone_by_nobody_elses() {
    let timeout = Timeout::new("api", Duration::MAX);
    let mut service = timeout.layer().layer(Late::never());
    for limit in [20, 30] {
        let start = Instant::now();
        let call = async { service.ready().await.unwrap().call(()).await };
        let rejected = rejected(Deadline::within(limit * MS).scope(call).await);
        assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
        assert!(!rejected.reached_service());
        assert_eq!(start.elapsed(), limit * MS);
    }
    // Its caller leaves; the next one has more time.
    let mut service = timeout.layer().layer(Late::after(50 * MS));
    let mut gone = task::spawn(());
    let mut hurried = context::current();
    hurried.deadline = Some(Deadline::within(20 * MS).time());
    assert_pending!(gone.enter(|cx, _| hurried.enter(|| service.poll_ready(cx))));
    advance(40 * MS).await;
    assert!(service.ready().await.unwrap().call(()).await.is_ok());
    let seen = timeout.snapshot();
    assert_eq!((seen.timed_out_total, seen.deadline_exceeded_total), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_kept_and_given_up_waits_begin_anew() {
    let timeout = Timeout::new("api", 100 * MS);
    let mut service = timeout.layer().layer(Late::never());
    let mut caller = task::spawn(());
    assert_pending!(caller.enter(|cx, _| service.poll_ready(cx)));
    // Long after that, somebody else: what was known is out of date.
    advance(10_000 * MS).await;
    let start = Instant::now();
    assert_pending!(caller.enter(|cx, _| service.poll_ready(cx)));
    assert!(service.ready().await.is_ok());
    assert_eq!(start.elapsed(), 100 * MS);
    // Ready it stays, until the call that says why it was not.
    assert_ready_ok!(caller.enter(|cx, _| service.poll_ready(cx)));
    // A clone finds out for itself.
    assert_pending!(caller.enter(|cx, _| service.clone().poll_ready(cx)));
    assert_eq!(rejected(service.call(()).await).kind(), Kind::TimedOut);
    assert_pending!(caller.enter(|cx, _| service.poll_ready(cx)));
}

#[tokio::test(start_paused = true)]
async fn behind_our_own_backpressure_the_deadline_ends_in_time_and_no_place_is_left_behind() {
    let shed = LoadShed::builder("orders").fixed(1).build().unwrap();
    let inner = tower::service_fn(|time: Duration| async move {
        sleep(time).await;
        Ok::<_, Failure>(())
    });
    let layer = shed.backpressure().layer().classify(ErrorsAsFailures);
    let direct = layer.layer(inner);
    let mut within = DeadlineLayer::within("all", 20 * MS).layer(layer.layer(inner));
    // The only permit is taken for 40 ms.
    let busy = tokio::spawn(direct.clone().oneshot(40 * MS));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let answer = within.ready().await.unwrap().call(MS).await;
    assert_eq!(rejected(answer).kind(), Kind::DeadlineExceeded);
    assert_eq!(start.elapsed().as_millis(), 20);
    // The service lives on. Its place in the line does not: the permit is for whoever comes.
    assert_eq!(shed.snapshot().queued, 0);
    busy.await.unwrap().unwrap();
    assert_eq!(shed.snapshot().in_flight, 0);
    let next = tokio::time::timeout(MS, direct.clone().ready_oneshot()).await;
    drop(next.expect("a permit at once").unwrap());
    assert!(within.ready().await.unwrap().call(MS).await.is_ok());
    assert_eq!(shed.snapshot().in_flight, 0);
}

/// A guard that notes how its calls end, and what of them was waiting.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(Duration, End)>>>);

impl GuardBase for Notes {
    type Permit = Duration;
    type Wait = Never;
    fn settle(&self, waited: Duration, end: End, _: &buttress::Now) {
        self.0.lock().unwrap().push((waited, end));
    }
    fn on_wait_end(&self, permit: &mut Duration, waited: Duration, _: &buttress::Now) {
        *permit += waited;
    }
    fn abandon(&self, wait: Never, _: &buttress::Now) {
        match wait {}
    }
}

impl<Req> Guard<Req> for Notes {
    fn admit(&self, _: &Req, _: &buttress::Now) -> Admission<Duration, Never> {
        Admission::Admitted(Duration::ZERO)
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_is_not_the_services_time() {
    for (wait, end) in [
        (60, End::Done(buttress::Outcome::Success)),
        (500, End::Done(buttress::Outcome::Refused)),
    ] {
        let notes = Notes::default();
        let timed = Timeout::new("api", 100 * MS)
            .layer()
            .layer(Late::after(wait * MS));
        // As an axum handler that calls a client of its own.
        let handler = tower::service_fn(move |()| timed.clone().oneshot(()));
        let guarded = GuardLayer::new(notes.clone())
            .classify(ErrorsAsFailures)
            .layer(handler);
        let _ = guarded.oneshot(()).await;
        let seen = notes.0.lock().unwrap().clone();
        let waited = wait.min(100) * MS;
        assert_eq!(seen, [(waited, end)]);
    }
}
