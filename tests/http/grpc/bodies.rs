//! Responses that break the rules, frame by frame.

use crate::tally::{FAILURE, IGNORED, REFUSED, SUCCESS, Tally, overloaded};
use buttress::{CircuitBreaker, Error, GuardLayer, guard::End};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::Either, stream};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use std::io;
use tonic::Status;
use tower::{Layer, ServiceExt};

type Frames = Vec<Result<Frame<Bytes>, io::Error>>;

fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers(status: &'static str) -> Result<Frame<Bytes>, io::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
    Ok(Frame::trailers(trailers))
}

/// How a call with these frames ends, if the first `read` of them are read. Then the rest hangs.
async fn end(frames: Frames, read: usize) -> End {
    let ends = frames.len() < read;
    let frames = stream::iter(frames);
    let frames = if ends {
        Either::Left(frames)
    } else {
        Either::Right(frames.chain(stream::pending()))
    };
    let response = Response::builder().header("content-type", "application/grpc");
    let mut response = Some(response.body(StreamBody::new(frames)).unwrap());
    let service = tower::service_fn(move |()| {
        let response = response.take().unwrap();
        async { Ok::<_, Error<io::Error>>(response) }
    });
    let tally = Tally::default();
    let guarded = GuardLayer::new(tally.clone()).grpc().layer(service);
    let mut body = guarded.oneshot(()).await.unwrap().into_body();
    for _ in 0..read {
        assert!(tally.ends().is_empty());
        let _ = body.frame().await;
    }
    drop(body);
    let ends = tally.ends();
    assert_eq!(ends.len(), 1);
    ends[0]
}

#[tokio::test]
async fn a_call_ends_as_its_body_does() {
    let shed = overloaded(None);
    assert_eq!(end(vec![data("a"), trailers("0")], 2).await, SUCCESS);
    assert_eq!(end(vec![data("a"), trailers("13")], 2).await, FAILURE);
    assert_eq!(end(vec![trailers("8")], 1).await, shed);
    assert_eq!(end(vec![trailers("nonsense")], 1).await, FAILURE);
    // No status at all.
    assert_eq!(end(vec![], 1).await, FAILURE);
    assert_eq!(end(vec![data("a")], 2).await, FAILURE);
    // Reset.
    let reset = Err(io::ErrorKind::ConnectionReset.into());
    assert_eq!(end(vec![data("a"), reset], 2).await, FAILURE);
    // Dropped: before anything came, after an empty frame, after some of it.
    assert_eq!(end(vec![], 0).await, End::Cancelled);
    assert_eq!(end(vec![data("")], 1).await, End::Cancelled);
    assert_eq!(end(vec![data("a")], 1).await, IGNORED);
}

#[tokio::test]
async fn an_answer_of_trailers_only_ends_with_its_head() {
    for (code, expected) in [("0", SUCCESS), ("14", FAILURE), ("5", IGNORED)] {
        let service = tower::service_fn(move |()| async move {
            let response = Response::builder().header("content-type", "application/grpc");
            let response = response.header("grpc-status", code);
            Ok::<_, Error<io::Error>>(response.body(Empty::<Bytes>::new()).unwrap())
        });
        let tally = Tally::default();
        let response = GuardLayer::new(tally.clone())
            .grpc()
            .layer(service)
            .oneshot(())
            .await;
        assert_eq!(tally.ends(), [expected]);
        drop(response);
        assert_eq!(tally.ends().len(), 1);
    }
}

#[tokio::test]
async fn a_status_that_a_body_ends_in_says_whether_it_is_a_rejection() {
    let breaker = CircuitBreaker::new("part");
    breaker.force_open();
    let refuse = || {
        let part = breaker.run(|| async { Ok::<_, Status>(()) });
        part.now_or_never().unwrap().unwrap_err()
    };
    let open = refuse();
    let cases = [
        // Refused elsewhere: there is no note of it.
        (open.clone(), false, REFUSED),
        (open, true, REFUSED),
        (Status::unavailable("gone"), false, FAILURE),
        // Another refusal was swallowed in the same poll.
        (Status::unavailable("gone"), true, FAILURE),
    ];
    for (status, note, expected) in cases {
        let case = format!("{status:?}, {note}");
        let failing = stream::once(async move {
            if note {
                let _ = refuse();
            }
            Err::<Frame<Bytes>, _>(status)
        });
        let body = StreamBody::new(stream::iter([Ok(Frame::data(Bytes::new()))]).chain(failing));
        let response = Response::builder().header("content-type", "application/grpc");
        let mut response = Some(response.body(body).unwrap());
        let service = tower::service_fn(move |()| {
            let response = response.take().unwrap();
            async { Ok::<_, Error<io::Error>>(response) }
        });
        let tally = Tally::default();
        let guarded = GuardLayer::new(tally.clone()).grpc().layer(service);
        let body = guarded.oneshot(()).await.unwrap().into_body();
        let mut body = std::pin::pin!(body);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(tally.ends(), [expected], "{case}");
    }
}
