//! Uploads over gRPC that go wrong, and are not the service's failure.

use crate::{
    rpc::{Orders, PUT, Uploads, channel, client, drained, put, serve},
    uploads::Ends,
    within,
};
use buttress::{
    CircuitBreaker, GuardLayer, LoadShed, Timeout, circuit_breaker::State, grpc::Grpc, guard::End,
    http::RespondLayer,
};
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What becomes of an upload after half a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    /// Its stream is reset.
    Reset,
    /// Its connection is closed.
    Gone,
    /// Its stream ends.
    Ended,
    /// The message ends, and is not what the service reads.
    Unreadable,
    /// Another message begins as none may begin.
    Malformed,
    /// Another message begins that is too long.
    TooLong,
    /// Nothing more of it comes.
    Stalled,
}

/// What the transport tells of, the body's framing, or tonic by a code of its own.
pub(crate) const BROKEN: [Broken; 5] = [
    Broken::Reset,
    Broken::Gone,
    Broken::TooLong,
    Broken::Ended,
    Broken::Malformed,
];

/// Sends an upload that goes wrong, and waits until the service has let go of it.
pub(crate) async fn send_broken(to: SocketAddr, uploads: &Uploads, how: Broken) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // A cable that can be cut.
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let cable =
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut stream).await });
    let io = TokioIo::new(near);
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = within(connected).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = mpsc::unbounded_channel::<io::Result<Frame<Bytes>>>();
    let send = |data: &'static [u8]| parts.send(Ok(Frame::data(data.into()))).unwrap();
    let request = http::Request::post(format!("http://{to}{PUT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(UnboundedReceiverStream::new(body)));
    let answer = sender.send_request(request.unwrap());
    let answer = tokio::spawn(async move {
        let body = answer.await?.into_body();
        body.collect().await
    });
    send(b"\0\0\0\0\x08half");
    uploads.begun().await;
    match how {
        Broken::Reset => parts.send(Err(io::Error::other("lost"))).unwrap(),
        Broken::Gone => cable.abort(),
        Broken::Ended => drop(parts),
        Broken::Unreadable => send(b"\xff\xff\xff\xff"),
        Broken::Malformed => send(b"done\x07\0\0\0\x08"),
        Broken::TooLong => send(b"done\0\xff\0\0\0"),
        Broken::Stalled => {}
    }
    uploads.ended().await;
    let _ = within(answer).await;
}

/// Sends five of each, and then one that is whole.
pub(crate) async fn send_broken_and_a_whole_one(
    to: SocketAddr,
    uploads: &Uploads,
    broken: &[Broken],
) {
    for how in broken {
        for _ in 0..5 {
            send_broken(to, uploads, *how).await;
        }
        let whole = put(&client(channel(to)), stream::iter(["whole".to_owned()])).await;
        assert_eq!(whole.as_deref().ok(), Some("5"), "after {how:?}: {whole:?}");
        uploads.begun().await;
        uploads.ended().await;
    }
}

async fn teach_a_servers_policies_nothing(broken: &[Broken]) {
    let (breaker, requests) = (CircuitBreaker::new("orders"), LoadShed::new("orders"));
    let stack = (breaker.layer().grpc(), requests.layer().grpc());
    let uploads = Uploads::new();
    let orders = Orders(uploads.clone());
    let to = serve(RespondLayer::new(Grpc, stack), orders).await;
    let limit = requests.snapshot().limit;
    send_broken_and_a_whole_one(to, &uploads, broken).await;
    drained(&requests).await;
    let circuit = breaker.snapshot();
    assert_eq!((circuit.state, circuit.failures_total), (State::Closed, 0));
    assert_eq!(requests.snapshot().limit, limit);
}

#[tokio::test]
async fn uploads_that_break_off_or_are_too_long_teach_a_servers_policies_nothing() {
    teach_a_servers_policies_nothing(&BROKEN).await;
}

#[tokio::test]
async fn an_upload_slower_than_the_operators_timeout_teaches_a_servers_policies_nothing() {
    let (outside, inside) = (Ends::default(), Ends::default());
    let breaker = CircuitBreaker::new("orders");
    let timeout = Timeout::new("orders", Duration::from_millis(50));
    let stack = (
        GuardLayer::new(outside.clone()).grpc(),
        breaker.layer().grpc(),
        timeout.layer().grpc(),
        GuardLayer::new(inside.clone()).grpc(),
    );
    let uploads = Uploads::new();
    let orders = Orders(uploads.clone());
    let to = serve(RespondLayer::new(Grpc, stack), orders).await;
    for _ in 0..5 {
        send_broken(to, &uploads, Broken::Stalled).await;
    }
    assert_eq!(timeout.snapshot().timed_out_total, 5);
    for ends in [outside, inside] {
        assert_eq!(ends.take(), [End::RequestFailed; 5]);
    }
    let circuit = breaker.snapshot();
    assert_eq!((circuit.state, circuit.failures_total), (State::Closed, 0));
}

/// tonic answers `INTERNAL`, and nothing but its message tells that from a method's own failure: the
/// docs of `grpc` say so.
#[tokio::test]
async fn a_message_that_cannot_be_decoded_counts_as_tonic_answers_it() {
    let breaker = CircuitBreaker::new("orders");
    let uploads = Uploads::new();
    let orders = Orders(uploads.clone());
    let to = serve(RespondLayer::new(Grpc, breaker.layer().grpc()), orders).await;
    send_broken(to, &uploads, Broken::Unreadable).await;
    assert_eq!(breaker.snapshot().failures_total, 1);
}
