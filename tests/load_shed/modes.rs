use crate::support::*;
use buttress::{ErrorsAsFailures, GuardLayer, Kind, LoadShed, Rejected, Time, context};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test]
async fn the_call_beyond_the_limit_is_rejected_at_once_and_says_by_whom_and_until_when() {
    let (shed, inner) = (fixed(2), Manual::default());
    let mut service = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut calls: Vec<_> = (0..3).map(|n| spawn(service.call(n))).collect();
    let Err(E::Rejected(rejected)) = assert_ready!(calls[2].poll()) else {
        panic!("the third was let in");
    };
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (Kind::Overloaded, "api")
    );
    assert_eq!(rejected.retry_after(), Some(Duration::from_millis(1)));
    assert!(!rejected.reached_service());
    assert_eq!(inner.running(), [0, 1]);
    inner.end();
    assert_pending!(calls[1].poll());
    assert_ready_eq!(calls[0].poll(), Ok(0));
    assert_pending!(spawn(service.call(3)).poll());
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.admitted_total, snapshot.rejected_total), (3, 1));
}

#[tokio::test]
async fn every_layer_of_every_mode_shares_the_one_limit() {
    let (shed, inner) = (fixed(3), Manual::default());
    let mut at_once = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut queued = shed
        .clone()
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut reserving = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    assert_ready!(spawn(reserving.ready()).poll()).unwrap();
    let calls = (at_once.call(1), queued.call(2), reserving.call(3));
    assert_eq!(shed.snapshot().in_flight, 3);
    assert_eq!(kind(at_once.call(4).await), Some(Kind::Overloaded));
    let mut waiting = spawn(queued.call(5));
    assert_pending!(waiting.poll());
    let mut other = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_pending!(spawn(other.ready()).poll());
    drop((calls, waiting, other));
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_starts_when_there_is_a_permit_and_not_before() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut first = spawn(service.call(1));
    assert_pending!(first.poll());
    let mut second = spawn(service.call(2));
    assert_pending!(second.poll());
    assert_eq!((inner.running(), shed.snapshot().queued), (vec![1], 1));
    inner.end();
    assert_ready_eq!(first.poll(), Ok(0));
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!((inner.running(), shed.snapshot().queued), (vec![2], 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_who_comes_later_takes_the_permit_of_one_who_waits() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut at_once = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut first = spawn(service.call(1));
    assert_pending!(first.poll());
    let mut second = spawn(service.call(2));
    assert_pending!(second.poll());
    inner.end();
    assert_ready!(first.poll()).unwrap();
    // Granted, but not polled yet.
    assert_eq!(kind(at_once.call(3).await), Some(Kind::Overloaded));
    assert_pending!(second.poll());
    assert_eq!(inner.running(), [2]);
}

/// Is never ready, though nothing is going on.
#[derive(Clone, Debug)]
struct Unready;
impl Service<u32> for Unready {
    type Response = u32;
    type Error = E;
    type Future = std::future::Ready<Result<u32, E>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Pending
    }
    fn call(&mut self, _: u32) -> Self::Future {
        panic!("not ready");
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_not_overload() {
    let shed = fixed(1);
    let mut service = shed.layer().classify(ErrorsAsFailures).layer(Unready);
    assert_pending!(spawn(service.ready()).poll());
    assert_pending!(
        spawn(
            shed.queued()
                .layer()
                .classify(ErrorsAsFailures)
                .layer(Unready)
                .ready()
        )
        .poll()
    );
    assert_pending!(
        spawn(
            shed.backpressure()
                .layer()
                .classify(ErrorsAsFailures)
                .layer(Unready)
                .ready()
        )
        .poll()
    );
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.rejected_total), (0, 0));
}

#[tokio::test]
async fn a_rejection_does_not_wait_for_a_service_that_is_not_ready() {
    let shed = fixed(1);
    let mut service = shed.layer().classify(ErrorsAsFailures).layer(Unready);
    let held = shed
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default())
        .call(1);
    assert_ready!(spawn(service.ready()).poll()).unwrap();
    assert_eq!(kind(service.call(2).await), Some(Kind::Overloaded));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_not_made_though_there_is_a_permit() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut context = context::current();
    context.deadline = Some(Time::now());
    let mut at_once = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut queued = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let calls = context.enter(|| [at_once.call(1).boxed_kind(), queued.call(2).boxed_kind()]);
    for call in calls {
        assert_eq!(call.await, Some(Kind::DeadlineExceeded));
    }
    assert!(inner.running().is_empty());
    assert_eq!(shed.snapshot().deadline_exceeded_total, 2);
    assert_at_rest(&shed);
}

trait BoxedKind {
    fn boxed_kind(self) -> std::pin::Pin<Box<dyn Future<Output = Option<Kind>>>>;
}
impl<F: Future<Output = Result<u32, E>> + 'static> BoxedKind for F {
    fn boxed_kind(self) -> std::pin::Pin<Box<dyn Future<Output = Option<Kind>>>> {
        Box::pin(async { kind(self.await) })
    }
}

#[tokio::test]
async fn run_guards_a_closure_in_both_modes() {
    let shed = fixed(1);
    let nested = shed
        .run(async || {
            let again = shed.run(async || Ok::<_, E>(1)).await;
            assert_eq!(kind(again), Some(Kind::Overloaded));
            Ok::<_, E>(2)
        })
        .await;
    assert_eq!(nested, Ok(2));
    assert_eq!(shed.queued().run(async || Ok::<_, E>(3)).await, Ok(3));
    assert_at_rest(&shed);
}

#[tokio::test]
async fn a_panic_gives_the_permit_back_wherever_it_comes_from() {
    let shed = fixed(1);
    let service = || service_fn(async |_: u32| -> Result<u32, E> { panic!("service") });
    let mut call = spawn(
        shed.layer()
            .classify(ErrorsAsFailures)
            .layer(service())
            .oneshot(1),
    );
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    let classify = |_: Result<&u32, &E>| -> buttress::Outcome { panic!("classifier") };
    let fine = || service_fn(async |n: u32| Ok::<_, E>(n));
    let mut call = spawn(shed.layer().classify(classify).layer(fine()).oneshot(1));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    assert_at_rest(&shed);

    let picky = |_: &u32| -> buttress::Criticality { panic!("priority") };
    let shed = LoadShed::builder("api")
        .fixed(1)
        .priority(picky)
        .build()
        .unwrap();
    let held = shed
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default())
        .call(0);
    let mut queued = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(fine());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(queued.call(1)))).is_err());
    drop(held);
    assert_at_rest(&shed);
}

#[tokio::test]
async fn in_a_tuple_a_permit_is_given_back_when_a_later_guard_refuses() {
    let (outer, inner) = (fixed(5), fixed(1));
    let mut service = GuardLayer::new((outer.clone(), inner.clone()))
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    let first = service.call(1);
    assert_eq!(kind(service.call(2).await), Some(Kind::Overloaded));
    assert_eq!(outer.snapshot().in_flight, 1);
    drop(first);
    assert_at_rest(&outer);
    assert_at_rest(&inner);
}

#[tokio::test]
async fn rejections_from_below_are_no_business_of_the_limit() {
    let shed = fixed(1);
    let below = Rejected::new(Kind::RateLimited, "below");
    let calls = Arc::new(AtomicUsize::new(0));
    let mut service = shed
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service_fn(async |_: u32| {
            calls.fetch_add(1, SeqCst);
            Err::<u32, E>(E::Rejected(below))
        }));
    for _ in 0..3 {
        assert_eq!(kind(service.call(1).await), Some(Kind::RateLimited));
    }
    assert_eq!((calls.load(SeqCst), shed.snapshot().rejected_total), (3, 0));
}
