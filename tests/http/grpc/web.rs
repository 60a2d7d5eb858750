//! gRPC-Web responses, whose trailers are in their bodies.

use crate::tally::{FAILURE, IGNORED, SUCCESS, Tally, overloaded};
use buttress::{Error, GuardLayer, guard::End};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io;
use tower::{Layer, ServiceExt};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

fn frame(flags: u8, text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap();
    [&[flags][..], &len.to_be_bytes(), text.as_bytes()].concat()
}

/// How a call ends whose body consists of these parts, if so many of them are read.
async fn end(content_type: &str, coding: &str, parts: &[Vec<u8>], read: usize) -> End {
    let parts = parts.to_vec();
    let frames = parts
        .into_iter()
        .map(|part| Ok::<_, io::Error>(Frame::data(Bytes::from(part))));
    let response = Response::builder()
        .header("content-type", content_type)
        .header("content-encoding", coding);
    let mut response = Some(
        response
            .body(StreamBody::new(stream::iter(frames).boxed()))
            .unwrap(),
    );
    let service = tower::service_fn(move |()| {
        let response = response.take().unwrap();
        async { Ok::<_, Error<io::Error>>(response) }
    });
    let tally = Tally::default();
    let guarded = GuardLayer::new(tally.clone()).grpc().layer(service);
    let mut body = guarded.oneshot(()).await.unwrap().into_body();
    for _ in 0..read {
        let _ = body.frame().await;
    }
    drop(body);
    let ends = tally.ends();
    assert_eq!(ends.len(), 1);
    ends[0]
}

#[tokio::test]
async fn a_call_ends_as_the_trailers_in_its_body_say() {
    let message = frame(0, "an answer");
    for (trailers, expected) in [
        ("grpc-status:0\r\n", SUCCESS),
        ("grpc-status: 13\r\ngrpc-message: bug\r\n", FAILURE),
        ("grpc-status: 5\r\n", IGNORED),
        (
            "grpc-status: 8\r\ngrpc-retry-pushback-ms: 70\r\n",
            overloaded(Some(70)),
        ),
        ("grpc-status: nonsense\r\n", FAILURE),
        ("grpc-message: no status\r\n", FAILURE),
    ] {
        let body = [message.clone(), frame(0x80, trailers)];
        assert_eq!(
            end(BINARY, "identity", &body, 3).await,
            expected,
            "{trailers}"
        );
        // Without the end of the body, which a server with a `content-length` never polls for.
        assert_eq!(
            end(BINARY, "identity", &body, 2).await,
            expected,
            "{trailers}"
        );
        let bytes = body.concat();
        let cut: Vec<_> = bytes.chunks(3).map(<[u8]>::to_vec).collect();
        assert_eq!(end(BINARY, "identity", &cut, cut.len()).await, expected);
    }
}

#[tokio::test]
async fn the_trailers_of_a_body_in_base64_are_read_as_well() {
    // A message "ok" and the trailers `grpc-status: 14`, each flushed with its padding.
    let (message, trailers) = (b"AAAAAAJvaw==", b"gAAAAA9ncnBjLXN0YXR1czogMTQ=");
    let body = [message.to_vec(), trailers.to_vec()];
    assert_eq!(end(TEXT, "identity", &body, 2).await, FAILURE);
    let bytes = body.concat();
    let cut: Vec<_> = bytes.chunks(5).map(<[u8]>::to_vec).collect();
    assert_eq!(end(TEXT, "identity", &cut, cut.len()).await, FAILURE);
    // The same bytes are no frames of the binary protocol.
    assert_eq!(end(BINARY, "identity", &body, 3).await, FAILURE);
    assert_eq!(end(TEXT, "identity", &[b"*".repeat(9)], 2).await, FAILURE);
}

#[tokio::test]
async fn a_body_without_a_status_says_what_one_of_grpc_would() {
    let message = frame(0, "an answer");
    let whole = [message.clone()];
    assert_eq!(end(BINARY, "identity", &[], 1).await, FAILURE);
    assert_eq!(end(BINARY, "identity", &whole, 2).await, FAILURE);
    assert_eq!(end(BINARY, "identity", &whole, 1).await, IGNORED);
    assert_eq!(end(BINARY, "identity", &whole, 0).await, End::Cancelled);
    // What cannot be looked at.
    let compressed = [message, frame(0x81, "zipped")];
    assert_eq!(end(BINARY, "identity", &compressed, 3).await, IGNORED);
    assert_eq!(end(BINARY, "gzip", &compressed, 3).await, SUCCESS);
}

#[tokio::test]
async fn an_error_in_place_of_a_response_is_a_failure_on_one_port_too() {
    let service = tower::service_fn(async |()| {
        Err::<Response<String>, _>(Error::Service(io::Error::other("gone")))
    });
    let tally = Tally::default();
    let guarded = GuardLayer::new(tally.clone()).auto().layer(service);
    assert!(guarded.oneshot(()).await.is_err());
    assert_eq!(tally.ends(), [FAILURE]);
}
