use crate::support::*;
use buttress::{ErrorsAsFailures, Kind, LoadShed, Time, context};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_as_long_as_it_may_and_is_then_rejected_without_being_polled_before() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let held = service.call(0);
    let mut waiting = spawn(service.call(1));
    assert_pending!(waiting.poll());
    advance(99 * MS).await;
    assert!(!waiting.is_woken());
    advance(2 * MS).await;
    assert!(waiting.is_woken());
    assert_eq!(kind(assert_ready!(waiting.poll())), Some(Kind::Overloaded));
    let snapshot = shed.snapshot();
    assert_eq!(
        (
            snapshot.expired_total,
            snapshot.rejected_total,
            snapshot.queued
        ),
        (1, 0, 0)
    );
    drop((held, waiting));
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_rejects_at_once() {
    let shed = LoadShed::builder("api").fixed(1).queue(2).build().unwrap();
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    let calls: Vec<_> = (0..3).map(|n| service.call(n)).collect();
    assert_eq!(kind(service.call(3).await), Some(Kind::Overloaded));
    assert_eq!(
        (shed.snapshot().queued, shed.snapshot().rejected_total),
        (2, 1)
    );
    drop(calls);
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn under_standing_overload_the_newest_goes_first_and_waits_for_less() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let _held = service.call(0);
    let mut old = spawn(service.call(1));
    assert_pending!(old.poll());
    advance(60 * MS).await;
    let mut middle = spawn(service.call(2));
    assert_pending!(middle.poll());
    advance(45 * MS).await;
    assert_eq!(kind(assert_ready!(old.poll())), Some(Kind::Overloaded));
    // The queue was not empty for 105 ms.
    let mut newest = spawn(service.call(3));
    let mut hurried = spawn(service.call(4));
    assert_pending!(newest.poll());
    assert_pending!(hurried.poll());
    inner.end();
    drop(_held);
    assert!(hurried.is_woken() && !middle.is_woken() && !newest.is_woken());
    assert_pending!(hurried.poll());
    assert_eq!(inner.running(), [4]);
    advance(21 * MS).await;
    assert_eq!(kind(assert_ready!(newest.poll())), Some(Kind::Overloaded));
    assert_pending!(middle.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_dropped_at_its_deadline_before_any_work() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut held = spawn(service.call(0));
    assert_pending!(held.poll());
    let mut context = context::current();
    context.deadline = Some(Time::now().after(30 * MS));
    let mut late = spawn(context.enter(|| service.call(1)));
    let mut granted_late = spawn(context.enter(|| service.call(2)));
    assert_pending!(late.poll());
    assert_pending!(granted_late.poll());
    advance(29 * MS).await;
    drop(late);
    inner.end();
    assert_ready_eq!(held.poll(), Ok(0));
    assert!(granted_late.is_woken(), "it has its permit");
    advance(2 * MS).await;
    assert_eq!(
        kind(assert_ready!(granted_late.poll())),
        Some(Kind::DeadlineExceeded)
    );
    assert!(inner.running().is_empty());
    drop(granted_late);

    let _held = service.call(0);
    context.deadline = Some(Time::now().after(30 * MS));
    let mut late = spawn(context.enter(|| service.call(3)));
    assert_pending!(late.poll());
    advance(31 * MS).await;
    assert!(late.is_woken());
    assert_eq!(
        kind(assert_ready!(late.poll())),
        Some(Kind::DeadlineExceeded)
    );
    assert_eq!(shed.snapshot().deadline_exceeded_total, 2);
    drop((_held, late));
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_makes_way_for_the_next_wherever_it_stands() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut held = spawn(service.call(0));
    assert_pending!(held.poll());
    let mut calls: Vec<_> = (1..5).map(|n| spawn(service.call(n))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    drop(calls.remove(1));
    inner.end();
    assert_ready_eq!(held.poll(), Ok(0));
    // Granted, and dropped before it was polled.
    assert!(calls[0].is_woken());
    drop(calls.remove(0));
    assert!(calls[0].is_woken() && !calls[1].is_woken());
    assert_pending!(calls[0].poll());
    assert_eq!(inner.running(), [3]);
    drop(calls);
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_holds_its_place_until_it_is_dropped() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner);
    let held = service.call(0);
    let never = service.call(1);
    drop(held);
    assert_eq!((shed.snapshot().in_flight, shed.snapshot().queued), (1, 0));
    drop(never);
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_who_wait_are_all_served_in_order() {
    const N: u32 = 100_000;
    let hour = Duration::from_secs(3_600);
    let shed = LoadShed::builder("api")
        .fixed(10)
        .queue(N as usize)
        .wait(hour)
        .overloaded_after(hour);
    let shed = shed.build().unwrap();
    let inner = Manual::default();
    let service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let tasks: Vec<_> = (0..N)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    let mut served = 0;
    while served < N {
        tokio::task::yield_now().await;
        let running = inner.running();
        assert!(running.len() <= 10, "{}", running.len());
        for n in running {
            assert_eq!(n, served);
            inner.end();
            served += 1;
        }
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(0));
    }
    assert_eq!(shed.snapshot().admitted_total, u64::from(N));
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_hundred_thousand_at_once_leaves_limit_and_queue_exact() {
    const N: u32 = 100_000;
    let shed = LoadShed::builder("api")
        .fixed(10)
        .queue(N as usize)
        .build()
        .unwrap();
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    let started = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    for forwards in [true, false] {
        let mut calls: Vec<_> = (0..N + 10).map(|n| spawn(service.call(n))).collect();
        for call in &mut calls {
            assert_pending!(call.poll());
        }
        assert_eq!(shed.snapshot().queued, N as usize);
        // Forwards the permits travel down the whole line; backwards nobody gets one.
        match forwards {
            true => drop(calls),
            false => calls.into_iter().rev().for_each(drop),
        }
        assert_at_rest(&shed);
    }
    let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - started;
    assert!(took < Duration::from_secs(20), "{took:?}: quadratic?");
}

#[tokio::test(start_paused = true)]
async fn the_service_is_not_cloned_while_there_are_permits() {
    #[derive(Debug)]
    struct Once(Manual);
    impl Clone for Once {
        fn clone(&self) -> Self {
            panic!("cloned")
        }
    }
    impl Service<u32> for Once {
        type Response = u32;
        type Error = E;
        type Future = <Manual as Service<u32>>::Future;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> std::task::Poll<Result<(), E>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, req: u32) -> Self::Future {
            self.0.call(req)
        }
    }
    let inner = Manual::default();
    let mut service = fixed(1)
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Once(inner.clone()));
    for _ in 0..3 {
        let mut call = spawn(service.call(1));
        assert_pending!(call.poll());
        inner.end();
        assert_ready_eq!(call.poll(), Ok(0));
    }
}

/// Looks at the queue when it is woken, and when it is dropped, as the task of an executor may.
struct Nosy(LoadShed);
impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.0.snapshot();
    }
}
impl Drop for Nosy {
    fn drop(&mut self) {
        self.0.snapshot();
    }
}

#[tokio::test(start_paused = true)]
async fn wakers_are_woken_and_dropped_where_nothing_is_locked() {
    let shed = LoadShed::builder("api").fixed(1).queue(2).build().unwrap();
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    let poll = |call: &mut Waiting| {
        let waker = Waker::from(Arc::new(Nosy(shed.clone())));
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    };
    type Waiting = Pin<Box<dyn Future<Output = Result<u32, E>> + Send>>;
    let mut call = |n| -> Waiting { Box::pin(service.call(n)) };
    let held = call(0);
    let (mut expired, mut granted) = (call(1), call(2));
    // Twice: the second waker takes the place of the first.
    for _ in 0..2 {
        assert!(!poll(&mut expired) && !poll(&mut granted));
        advance(50 * MS).await;
    }
    // Both have waited too long; whoever makes room puts them out, and the next one goes in.
    let mut next = call(3);
    assert!(!poll(&mut next));
    drop(held);
    assert!(poll(&mut expired) && poll(&mut granted) && !poll(&mut next));
    let mut left = call(4);
    assert!(!poll(&mut left));
    drop(left);
    let mut last = call(5);
    assert!(!poll(&mut last));
    drop(next);
    assert!(!poll(&mut last));
    drop(last);
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_takes_some_hundred_bytes_beside_itself() {
    use buttress::{Guard, GuardBase, Now, guard::Admission};

    let shed = LoadShed::builder("api").fixed(1).queue(1_024);
    let queued = shed.build().unwrap().queued();
    let admit = || Guard::<u32>::admit(&queued, &0, &Now::lazy());
    let Admission::Admitted(permit) = admit() else {
        panic!("there is room");
    };
    let mut waits = Vec::with_capacity(1_024);
    let taken = allocation_counter::measure(|| {
        waits.extend((0..1_024).filter_map(|_| match admit() {
            Admission::Wait(wait) => Some(wait),
            _ => None,
        }));
    });
    assert_eq!(waits.len(), 1_024);
    let each = taken.bytes_max / 1_024;
    assert!((50..=150).contains(&each), "{taken:?}");
    for wait in waits {
        GuardBase::abandon(&queued, wait, &Now::lazy());
    }
    queued.settle(permit, buttress::guard::End::NeverStarted, &Now::lazy());
}

/// A task that is late does not poll its call, which has expired: nobody is refused for it.
#[tokio::test(start_paused = true)]
async fn calls_that_have_expired_take_no_place_though_nobody_polls_them() {
    for closures in [true, false] {
        let queue = |wait| LoadShed::builder("api").fixed(1).queue(2).wait(wait);
        let shed = queue(100 * MS).overloaded_wait(100 * MS).build().unwrap();
        let layer = shed.queued().layer().classify(ErrorsAsFailures);
        let ok = || std::future::ready(Ok::<_, E>(0));
        let held = layer.layer(Manual::default()).call(0);
        let queued = shed.queued();
        let call = || -> Pin<Box<dyn Future<Output = Result<u32, E>>>> {
            match closures {
                true => {
                    let queued = queued.clone();
                    Box::pin(async move { queued.run(ok).await })
                }
                false => Box::pin(layer.layer(tower::service_fn(move |_: u32| ok())).call(1)),
            }
        };
        let mut dead: Vec<_> = (0..2).map(|_| spawn(call())).collect();
        dead.iter_mut()
            .for_each(|call| assert_pending!(call.poll()));
        assert_eq!(
            kind(spawn(call()).await),
            Some(Kind::Overloaded),
            "it is full"
        );
        // Nobody polls these two, as in a `select!` whose other branch is at work.
        advance(101 * MS).await;
        let mut live: Vec<_> = (0..2).map(|_| spawn(call())).collect();
        live.iter_mut()
            .for_each(|call| assert_pending!(call.poll()));
        assert_eq!(
            kind(spawn(call()).await),
            Some(Kind::Overloaded),
            "by live ones"
        );
        // The permit goes to one that is alive, and not by way of the dead.
        drop(held);
        let mut answered = 0;
        while let Some(next) = live.iter().position(|call| call.is_woken()) {
            assert_eq!(assert_ready!(live.remove(next).poll()), Ok(0));
            answered += 1;
        }
        assert_eq!(answered, 2);
        for mut call in dead {
            assert_eq!(kind(assert_ready!(call.poll())), Some(Kind::Overloaded));
        }
        let seen = shed.snapshot();
        assert_eq!((seen.admitted_total, seen.expired_total), (3, 2));
        assert_at_rest(&shed);
    }
}
