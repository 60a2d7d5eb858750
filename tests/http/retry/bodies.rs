//! Bodies that are sent again.

use super::support::*;
use buttress::{Error, http::ReplayBody};
use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};
use tower::{Layer, ServiceExt, service_fn};

fn frames(frames: &[&'static str]) -> impl Body<Data = Bytes, Error = io::Error> + Unpin + use<> {
    let mut all = Vec::new();
    for frame in frames {
        all.push(Ok(Frame::data(Bytes::from_static(frame.as_bytes()))));
    }
    StreamBody::new(stream::iter(all))
}

#[tokio::test(start_paused = true)]
async fn every_attempt_gets_the_whole_body_however_much_the_one_before_it_read() {
    for read in [0, 1, 2, 3, usize::MAX] {
        let origin = Origin::answering([answer(500), answer(200)]);
        let body = frames(&["one ", "two ", "three"]).with_trailers(async {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("7"));
            Some(Ok(trailers))
        });
        let request = Request::put("http://api/x").body(Box::pin(body)).unwrap();
        // The first attempt reads some of it, the second all of it.
        let (some, all) = (origin.service(read), origin.service(usize::MAX));
        let first = Arc::new(Mutex::new(true));
        let service = service_fn(move |request: Request<_>| {
            let first = std::mem::take(&mut *first.lock().unwrap());
            if first {
                some.clone().oneshot(request).left_future()
            } else {
                all.clone().oneshot(request).right_future()
            }
        });
        let answer = layer().layer(service).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(
            origin.seen(|seen| seen.body.clone())[1],
            "one two three",
            "{read}"
        );
        assert_eq!(origin.seen(|seen| seen.trailers)[1], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_too_large_to_keep_gets_one_attempt_and_its_own_answer() {
    let known = Request::put("/x")
        .body(Full::<Bytes>::from(vec![7; 11]))
        .unwrap();
    let origin = Origin::answering([with(503, "x-who", "origin")]);
    let answered = layer()
        .body_cap(10)
        .layer(origin.service(99))
        .oneshot(known)
        .await
        .unwrap();
    assert_eq!((answered.status().as_u16(), origin.calls()), (503, 1));
    assert_eq!(answered.headers()["x-who"], "origin");

    for (cap, calls) in [(14, 1), (15, 2)] {
        let streamed = Request::put("/x")
            .body(frames(&["01234", "56789", "abcde"]))
            .unwrap();
        let origin = Origin::answering([answer(503)]);
        let layer = layer().body_cap(cap);
        let _ = layer
            .layer(origin.service(99))
            .oneshot(streamed)
            .await
            .unwrap();
        assert_eq!(origin.calls(), calls);
        assert!(
            origin
                .seen(|seen| seen.body.clone())
                .iter()
                .all(|b| b == "0123456789abcde")
        );
    }
    // In frames so small that keeping them costs many times their length.
    let crumbs = Request::put("/x").body(frames(&["."; 2_000])).unwrap();
    let origin = Origin::answering([answer(503)]);
    let _ = layer()
        .layer(origin.service(9_999))
        .oneshot(crumbs)
        .await
        .unwrap();
    assert_eq!(
        (origin.calls(), origin.seen(|seen| seen.body.len())),
        (1, vec![2_000])
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_body_needs_no_room_for_one() {
    let origin = Origin::answering([answer(503)]);
    let request = Request::get("/x").body(Empty::<Bytes>::new()).unwrap();
    let _ = layer()
        .body_cap(0)
        .layer(origin.service(9))
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_not_sent_again() {
    let broken = stream::iter([
        Ok(Frame::data(Bytes::from_static(b"one"))),
        Err(io::Error::other("the client went away")),
    ]);
    let origin = Origin::default();
    let request = Request::put("/x").body(StreamBody::new(broken)).unwrap();
    let answer = layer().layer(origin.service(9)).oneshot(request).await;
    assert!(matches!(answer, Err(Error::Service(_))));
    assert_eq!(origin.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_body_of_an_attempt_that_is_over_never_looks_complete() {
    let old = Arc::new(Mutex::new(None::<ReplayBody<_>>));
    let held = Arc::clone(&old);
    let service = service_fn(move |request: Request<ReplayBody<_>>| {
        let held = Arc::clone(&held);
        async move {
            let body = request.into_body();
            if held.lock().unwrap().is_none() {
                // As a connection does that goes on sending while the answer is there already.
                *held.lock().unwrap() = Some(body);
                return Ok::<_, Error<io::Error>>(answer(503));
            }
            let mut old = held.lock().unwrap().take().unwrap();
            assert!(!old.is_end_stream());
            assert!(old.frame().now_or_never().flatten().unwrap().is_err());
            assert_eq!(body.size_hint().lower(), 0);
            assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
            Ok(answer(200))
        }
    });
    let request = Request::put("/x").body(frames(&["one ", "two"])).unwrap();
    assert_eq!(
        layer()
            .layer(service)
            .oneshot(request)
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_not_kept_is_sent_to_its_end_though_the_answer_came_early() {
    let sent = Arc::new(Mutex::new(None::<ReplayBody<_>>));
    let held = Arc::clone(&sent);
    let service = service_fn(move |request: Request<ReplayBody<_>>| {
        let held = Arc::clone(&held);
        async move {
            let mut body = request.into_body();
            for _ in 0..2 {
                let _ = body.frame().await;
            }
            // The connection goes on sending while the answer is there already.
            assert!(held.lock().unwrap().replace(body).is_none());
            Ok::<_, Error<io::Error>>(answer(503))
        }
    });
    let body = frames(&["01234", "56789", "abcde"]);
    let request = Request::put("/x").body(body).unwrap();
    let layer = layer().body_cap(9);
    let answer = layer.layer(service).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 503);
    let rest = sent.lock().unwrap().take().unwrap();
    assert_eq!(rest.collect().await.unwrap().to_bytes(), "abcde");
}

#[tokio::test(start_paused = true)]
async fn the_length_of_a_body_stays_known() {
    let origin = service_fn(async |request: Request<ReplayBody<Full<Bytes>>>| {
        let mut body = request.into_body();
        assert_eq!(body.size_hint().exact(), Some(7));
        assert!(!body.is_end_stream());
        let _ = body.frame().await;
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
        Ok::<_, Error<io::Error>>(answer(503))
    });
    let _ = layer()
        .layer(origin)
        .oneshot(request(Method::PUT))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_of_one_body_gets_that() {
    use axum::body::Body;
    let service = service_fn(async |request: Request<Body>| {
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        assert_eq!(body.unwrap(), "payload");
        Ok::<_, Infallible>(answer(503))
    });
    let stack = (
        layer().map_body(Body::new),
        tower::util::MapErrLayer::new(Error::Service),
    );
    let answer = stack.layer(service).oneshot(request(Method::PUT)).await;
    assert!(answer.is_ok_and(|answer| answer.status() == 503));
}
