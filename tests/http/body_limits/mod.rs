//! Limits that hold over bodies.

mod context;
mod frames;
mod grpc;
mod late_readers;
mod races;
mod sockets;
mod table;

use buttress::{
    AsRejected, Error, Kind,
    http::{BodyCut, BodyLimit},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::{convert::Infallible, io, time::Duration};

const MS: Duration = Duration::from_millis(1);
type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Failure = Error<io::Error>;

/// A body of these many bytes, each frame that long after the one before, and then of nothing, for
/// ever.
fn dripping(
    frames: usize,
    bytes: usize,
    every: Duration,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let frames = stream::iter(0..frames).then(move |_| async move {
        tokio::time::sleep(every).await;
        Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))
    });
    StreamBody::new(frames.chain(stream::pending()))
}

/// The same, from a sender that does not wait to be asked.
fn sent(
    frames: usize,
    bytes: usize,
    every: Duration,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let (sends, sent) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for _ in 0..frames {
            tokio::time::sleep(every).await;
            let _ = sends.send(Ok(Frame::data(Bytes::from(vec![b'x'; bytes]))));
        }
        sends.closed().await;
    });
    StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(sent))
}

/// Reads to the end: how much came, and what it ended with.
async fn read<B>(body: B) -> (usize, Result<(), B::Error>)
where
    B: Body<Data = Bytes>,
{
    let (mut body, mut read) = (Box::pin(body), 0);
    loop {
        match body.frame().await {
            None => return (read, Ok(())),
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(error)) => return (read, Err(error)),
        }
    }
}

/// What a body was cut off by, wherever in its error that stands.
fn cut(error: &(dyn std::error::Error + 'static)) -> Option<(BodyLimit, Kind)> {
    let mut error = Some(error);
    while let Some(here) = error {
        if let Some(cut) = here.downcast_ref::<BodyCut>() {
            let rejected = cut.rejected();
            assert!(rejected.reached_service());
            assert_eq!(cut.as_rejected(), Some(&rejected));
            return Some((cut.limit(), rejected.kind()));
        }
        error = here.source();
    }
    None
}

/// What reading a body ended with, if it was cut off.
fn cut_of(end: Result<(), BoxError>) -> Option<(BodyLimit, Kind)> {
    let error = end.err()?;
    assert!(error.as_rejected().is_some());
    cut(&*error)
}

/// A service that answers with such a body.
fn answering<R, B, F>(
    make: F,
) -> impl tower::Service<R, Response = Response<B>, Error = Failure, Future: Send> + Clone + Send
where
    F: Fn() -> B + Clone + Send,
    B: Send,
{
    tower::service_fn(move |_: R| {
        let response = Response::new(make());
        async { Ok(response) }
    })
}
