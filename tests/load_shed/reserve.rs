use crate::support::*;
use buttress::ErrorsAsFailures;
use buttress::Kind;
use std::task::{Context, Poll, Waker};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt};

fn poll_ready<S: Service<u32, Error = E>>(service: &mut S) -> Poll<Result<(), E>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_service_is_ready_when_it_has_its_permit_and_only_once() {
    let (shed, inner) = (fixed(1), Manual::default());
    let mut service = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    assert_ready_eq!(poll_ready(&mut service), Ok(()));
    assert_ready_eq!(poll_ready(&mut service), Ok(()));
    assert_eq!(shed.snapshot().in_flight, 1);
    let mut call = spawn(service.call(1));
    assert_pending!(call.poll());
    let mut ready = spawn(service.ready());
    assert_pending!(ready.poll());
    inner.end();
    assert_ready_eq!(call.poll(), Ok(0));
    assert!(ready.is_woken());
    assert!(assert_ready!(ready.poll()).is_ok());
    drop(ready);
    drop(service);
    assert_at_rest(&shed);
}

#[tokio::test]
async fn a_clone_has_to_wait_for_a_permit_of_its_own() {
    let shed = fixed(1);
    let mut service = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    assert_ready_eq!(poll_ready(&mut service), Ok(()));
    let mut clone = service.clone();
    assert_pending!(poll_ready(&mut clone));
    // It did not ask, or not for long enough.
    assert_eq!(kind(clone.call(1).await), Some(Kind::NotReady));
    drop(service);
    assert_ready_eq!(poll_ready(&mut clone), Ok(()));
    drop(clone);
    assert_at_rest(&shed);
}

#[tokio::test]
async fn those_who_wait_are_served_in_order_and_one_who_leaves_does_not_keep_the_others() {
    let (shed, inner) = (fixed(1), Manual::default());
    let layer = shed.backpressure().layer().classify(ErrorsAsFailures);
    let mut first = layer.layer(inner.clone());
    assert_ready_eq!(poll_ready(&mut first), Ok(()));
    let mut waiting: Vec<_> = (0..4)
        .map(|_| {
            let service = layer.layer(inner.clone());
            let mut ready = spawn(service.ready_oneshot());
            assert_pending!(ready.poll());
            ready
        })
        .collect();
    drop(waiting.remove(1));
    drop(first);
    for next in 0..3 {
        let woken: Vec<_> = waiting.iter().map(|w| w.is_woken()).collect();
        assert_eq!(woken.iter().filter(|w| **w).count(), 1, "{next}");
        assert!(woken[0]);
        // Its permit comes and goes.
        drop(waiting.remove(0));
    }
    assert_at_rest(&shed);
}

/// Fails at its second `poll_ready`.
#[derive(Clone)]
struct Breaks(u32);
impl Service<u32> for Breaks {
    type Response = u32;
    type Error = E;
    type Future = std::future::Ready<Result<u32, E>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0 += 1;
        Poll::Ready(if self.0 > 1 { Err(E::Boom) } else { Ok(()) })
    }
    fn call(&mut self, n: u32) -> Self::Future {
        std::future::ready(Ok(n))
    }
}

#[tokio::test]
async fn a_service_that_fails_to_become_ready_keeps_no_permit() {
    let shed = fixed(1);
    let mut service = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Breaks(0));
    assert_ready_eq!(poll_ready(&mut service), Ok(()));
    assert_ready_eq!(poll_ready(&mut service), Err(E::Boom));
    assert_at_rest(&shed);
}

#[tokio::test]
async fn a_dropped_call_gives_its_permit_to_the_next() {
    let shed = fixed(1);
    let mut service = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    assert_ready_eq!(poll_ready(&mut service), Ok(()));
    let call = service.call(1);
    let mut ready = spawn(service.ready());
    assert_pending!(ready.poll());
    drop(call);
    assert!(ready.is_woken());
    assert_ready!(ready.poll()).unwrap();
}
