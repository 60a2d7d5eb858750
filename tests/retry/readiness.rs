//! Attempts need a service that is ready.

use crate::support::*;
use buttress::{Error, ErrorsAsFailures, retry::Retry};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, ServiceExt};
use tower_test::{assert_request_eq, mock};

#[tokio::test(start_paused = true)]
async fn every_attempt_waits_for_its_service_to_be_ready() {
    let retry = Retry::builder("api")
        .backoff(exact(10 * MS))
        .build()
        .unwrap();
    let (mut service, mut handle) = mock::spawn_with(|inner: mock::Mock<u32, &'static str>| {
        let inner = inner.map_err(|_| Error::Service("closed"));
        retry.layer().classify(ErrorsAsFailures).layer(inner)
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
    assert_eq!(retry.snapshot().retries_total, 0);
    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_request_eq!(handle, 7).send_response("done");
    assert_eq!(assert_ready_ok!(call.poll()), "done");
    assert_eq!(retry.snapshot().retries_total, 1);
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
            .classify(ErrorsAsFailures)
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
        (
            retry.snapshot().budget_balance,
            retry.snapshot().retries_total
        ),
        (10.0, 0)
    );
}
