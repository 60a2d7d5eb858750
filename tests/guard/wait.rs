//! One guard that may wait.

use crate::support::*;
use buttress::{ErrorsAsFailures, Outcome, Time, WaitLayer, guard::End};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt};

fn closed(log: &Log) -> Gate {
    let gate = Gate::new("gate", log);
    gate.0.close();
    gate
}

/// Counts its clones, each of which is ready at its second poll only.
struct Clones {
    count: Arc<AtomicUsize>,
    polled: usize,
    fails: bool,
}

impl Clones {
    fn new(fails: bool) -> Self {
        let count = Arc::default();
        Self {
            count,
            polled: 0,
            fails,
        }
    }
}

impl Clone for Clones {
    fn clone(&self) -> Self {
        self.count.fetch_add(1, SeqCst);
        Self {
            count: self.count.clone(),
            polled: 0,
            fails: self.fails,
        }
    }
}

impl Service<usize> for Clones {
    type Response = usize;
    type Error = E;
    type Future = std::future::Ready<Result<usize, E>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.polled += 1;
        match (self.polled, self.fails) {
            (1, _) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            (_, true) => Poll::Ready(Err(E::Boom)),
            _ => Poll::Ready(Ok(())),
        }
    }
    fn call(&mut self, n: usize) -> Self::Future {
        assert!(self.polled > 1, "called without being ready");
        std::future::ready(Ok(n))
    }
}

#[tokio::test]
async fn the_service_is_cloned_for_a_call_that_waits_and_only_then() {
    let log = Log::default();
    let (gate, inner) = (Gate::new("gate", &log), Clones::new(false));
    let count = inner.count.clone();
    let mut service = WaitLayer::new(gate.clone())
        .classify(ErrorsAsFailures)
        .layer(inner);
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(7));
    assert_eq!(count.load(SeqCst), 0);
    gate.0.close();
    let waiting = service.ready().await.unwrap().call(8);
    assert_eq!(count.load(SeqCst), 1);
    gate.0.open();
    assert_eq!(waiting.await, Ok(8));
}

#[tokio::test]
async fn a_service_that_fails_to_get_ready_when_the_wait_is_over_was_not_reached() {
    let log = Log::default();
    let gate = closed(&log);
    let mut service = WaitLayer::new(gate.clone())
        .classify(ErrorsAsFailures)
        .layer(Clones::new(true));
    let mut waiting = spawn(service.call(8));
    assert_pending!(waiting.poll());
    gate.0.open();
    assert_pending!(waiting.poll());
    assert_ready_eq!(waiting.poll(), Err(E::Boom));
    drop(waiting);
    let told = log.take();
    assert_eq!(told[..2], [("gate", Wait), ("gate", Admit)]);
    assert_eq!(
        told[2..],
        [("gate", Settle(End::NeverStarted)), ("gate", Unready)]
    );
}

#[test]
fn a_waiting_call_dropped_at_any_moment_ends_once() {
    // Waiting, waiting, made ready, called.
    for polls in 0..5 {
        let log = Log::default();
        let gate = closed(&log);
        let mut service = WaitLayer::new(gate.clone())
            .classify(ErrorsAsFailures)
            .layer(Clones::new(false));
        let mut call = spawn(service.call(5));
        for poll in 0..polls {
            if poll == 2 {
                gate.0.open();
            }
            match poll {
                3 => assert_eq!(assert_ready!(call.poll()), Ok(5)),
                4 => {}
                _ => assert!(call.poll().is_pending()),
            }
        }
        drop(call);
        let expected = match polls {
            0..=2 => vec![("gate", Wait), ("gate", Abandon)],
            // Admitted, but the service was not reached: what it took is given back.
            3 => vec![
                ("gate", Wait),
                ("gate", Admit),
                ("gate", Settle(End::NeverStarted)),
            ],
            _ => {
                let success = End::Done(Outcome::Success);
                vec![("gate", Wait), ("gate", Admit), ("gate", Settle(success))]
            }
        };
        assert_eq!(log.take(), expected, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_with_a_known_end_is_asked_again_then() {
    let log = Log::default();
    let gate = Gate::new("gate", &log);
    let start = Time::now();
    gate.0.close_until(start.after(Duration::from_secs(90)));
    let service = WaitLayer::new(gate)
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    assert_eq!(service.oneshot(1).await, Ok(1));
    let waited = Time::now().since(start);
    assert!(
        waited >= Duration::from_secs(90) && waited < Duration::from_secs(91),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_end_moves_is_followed() {
    let log = Log::default();
    let gate = Gate::new("gate", &log);
    let start = Time::now();
    gate.0.close_until(start.after(Duration::from_secs(3600)));
    let mut service = WaitLayer::new(gate.clone())
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    let mut call = spawn(service.call(1));
    assert_pending!(call.poll());
    gate.0.close_until(start.after(Duration::from_secs(5)));
    assert_pending!(call.poll());
    assert_eq!(call.await, Ok(1));
    assert!(Time::now().since(start) < Duration::from_secs(6));
}

#[test]
fn a_refused_call_does_not_wait() {
    let log = Log::default();
    let gate = Gate::new("gate", &log);
    gate.0.refuse(overloaded());
    let mut service = WaitLayer::new(gate)
        .classify(ErrorsAsFailures)
        .layer(Clones::new(false));
    let mut call = spawn(service.call(1));
    assert_ready_eq!(call.poll(), Err(E::Rejected(overloaded())));
    drop(call);
    assert_eq!(log.take(), [("gate", Refuse)]);
}

/// Has room when it is told so; what becomes of a wait is left to the default.
#[derive(Clone)]
struct Room(Arc<(AtomicUsize, AtomicUsize)>);

impl buttress::GuardBase for Room {
    type Permit = ();
    type Wait = ();
    fn settle(&self, (): (), _: End, _: &buttress::Now) {}
}

impl buttress::Guard<usize> for Room {
    fn admit(&self, _: &usize, _: &buttress::Now) -> buttress::guard::Admission<(), ()> {
        self.0.1.fetch_add(1, SeqCst);
        match self.0.0.load(SeqCst) {
            0 => buttress::guard::Admission::Wait(()),
            _ => buttress::guard::Admission::Admitted(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_says_nothing_of_its_waits_is_asked_again_at_once_and_every_millisecond() {
    let room = Arc::<(AtomicUsize, AtomicUsize)>::default();
    let mut service = WaitLayer::new(Room(room.clone()))
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    let mut call = spawn(service.call(0));
    assert_pending!(call.poll());
    assert_eq!(room.1.load(SeqCst), 2);
    for asked in 3..10 {
        // Timers are a millisecond late at most.
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(call.is_woken());
        assert_pending!(call.poll());
        assert_eq!(room.1.load(SeqCst), asked);
    }
    room.0.store(1, SeqCst);
    assert_eq!(call.await, Err(E::Boom));
}
