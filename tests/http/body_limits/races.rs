//! The timer of a body's end and its reader, on several threads at once.

use super::{BoxError, Failure, cut_of};
use crate::tally::{SUCCESS, Tally};
use buttress::{GuardLayer, guard::End, timeout::DeadlineLayer};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{task::yield_now, time::timeout};
use tower::{Layer, ServiceExt, service_fn};

/// Frames for about as long as there is time, with and without a pause before each.
fn frames(of: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send {
    let frames = stream::iter(0..1_000).then(move |n| async move {
        if n % (of + 1) == 0 {
            yield_now().await;
        }
        Ok(Frame::data(Bytes::from_static(b"x")))
    });
    StreamBody::new(frames.chain(stream::pending()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_they_meet_a_call_ends_once_and_its_reader_hears_of_it() {
    const CALLS: usize = 400;
    let tally = Tally::default();
    let layer = DeadlineLayer::within("all", Duration::from_millis(20)).http();
    let inside = GuardLayer::new(tally.clone()).http();
    let service = layer.layer(inside.layer(service_fn(|of: usize| async move {
        Ok::<_, Failure>(Response::new(frames(of)))
    })));
    let barrier = Arc::new(tokio::sync::Barrier::new(CALLS));
    let calls = (0..CALLS).map(|n| {
        let (service, barrier) = (service.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            // A machine that is busy elsewhere may make a call too late.
            let Ok(response) = service.oneshot(n % 7).await else {
                return Ok(());
            };
            let mut body = Box::pin(response.into_body());
            loop {
                match body.frame().await {
                    Some(Ok(_)) if n % 3 == 0 => yield_now().await,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                }
            }
        })
    });
    let calls = futures::future::join_all(calls);
    let ends = timeout(Duration::from_secs(60), calls).await.unwrap();
    for end in ends {
        let end: Result<(), BoxError> = end.unwrap();
        assert!(end.is_ok() || cut_of(end).is_some());
    }
    assert_eq!(tally.in_flight(), 0);
    assert_eq!(tally.ends().len(), tally.admitted());
    let told = |end: &End| matches!(end, End::TimedOut) || *end == SUCCESS;
    assert!(tally.ends().iter().all(told), "{:?}", tally.ends());
}
