//! Readers that are woken and come late, as hyper does while it writes to a slow client: the sender
//! is not the one who is slow.

use super::{BoxError, Failure, MS, cut_of};
use buttress::{
    Kind, Timeout,
    http::{BodyLimit, MinRate, UploadBody},
};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, advance},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt, service_fn};

/// Sends so many bytes, or wakes for nothing.
type Sender = UnboundedSender<Option<usize>>;
type Limited = Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

/// The default window of a rate.
const WINDOW: Duration = Duration::from_secs(5);
/// For how long a late reader is elsewhere: more than a window.
const LATE: Duration = Duration::from_secs(10);

fn timeout() -> (Timeout, MinRate) {
    let timeout = Timeout::new("api", Duration::from_secs(86_400));
    (timeout, MinRate::per_second(1_000))
}

fn channel() -> (
    Sender,
    impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) {
    let (sends, frames) = unbounded_channel();
    let frames = UnboundedReceiverStream::new(frames).filter_map(async |bytes: Option<usize>| {
        let data = Bytes::from(vec![b'x'; bytes?]);
        Some(Ok(Frame::data(data)))
    });
    (sends, StreamBody::new(Box::pin(frames)))
}

/// A response's body that is held to 1,000 bytes per second.
async fn download() -> (Timeout, Sender, Limited) {
    let (timeout, rate) = timeout();
    let (sends, body) = channel();
    let mut body = Some(body);
    let service = service_fn(move |_: Request<()>| {
        let body = body.take().unwrap();
        async { Ok::<_, Failure>(Response::new(body)) }
    });
    let service = timeout.layer().http().min_rate(rate).layer(service);
    let response = service.oneshot(Request::new(())).await.unwrap();
    (timeout, sends, Box::pin(response.into_body()))
}

/// A request's body that is held to the same.
async fn upload() -> (Timeout, Sender, Limited) {
    let (timeout, rate) = timeout();
    let (sends, body) = channel();
    let (gives, mut given) = unbounded_channel::<Limited>();
    let service = service_fn(move |request: Request<UploadBody<_>>| {
        let _ = gives.send(Box::pin(request.into_body()));
        async { Ok::<_, Failure>(Response::new(String::new())) }
    });
    let service = timeout.layer().http().min_upload_rate(rate).layer(service);
    service.oneshot(Request::new(body)).await.unwrap();
    (timeout, sends, given.recv().await.unwrap())
}

async fn both() -> [(Timeout, Sender, Limited); 2] {
    [download().await, upload().await]
}

/// A task that reads a body.
type Reader = task::Spawn<()>;

fn poll(reader: &mut Reader, body: &mut Limited) -> Poll<Option<Result<usize, BoxError>>> {
    let polled = reader.enter(|cx: &mut Context<'_>, _| body.as_mut().poll_frame(cx));
    polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap().len())))
}

fn send(frames: &Sender, bytes: impl Into<Option<usize>>) {
    frames.send(bytes.into()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_late_is_not_the_senders_slowness() {
    for (timeout, sends, mut body) in both().await {
        for _ in 0..5 {
            let mut reader = task::spawn(());
            // Waited for, and there a millisecond later: a thousand times the rate.
            assert_pending!(poll(&mut reader, &mut body));
            advance(MS).await;
            send(&sends, 1_000);
            assert!(reader.is_woken());
            advance(LATE).await;
            let read = assert_ready!(poll(&mut reader, &mut body));
            assert_eq!(read.unwrap().unwrap(), 1_000);
        }
        assert_pending!(poll(&mut task::spawn(()), &mut body));
        assert_eq!(timeout.snapshot().timed_out_total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nor_is_one_that_was_woken_for_nothing() {
    for (timeout, sends, mut body) in both().await {
        for _ in 0..5 {
            let mut reader = task::spawn(());
            assert_pending!(poll(&mut reader, &mut body));
            advance(MS).await;
            send(&sends, None);
            assert!(reader.is_woken());
            advance(LATE).await;
            assert_pending!(poll(&mut reader, &mut body));
            advance(MS).await;
            send(&sends, 1_000);
            advance(LATE).await;
            assert!(assert_ready!(poll(&mut reader, &mut body)).is_some());
        }
        assert_pending!(poll(&mut task::spawn(()), &mut body));
        assert_eq!(timeout.snapshot().timed_out_total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_reader_is_woken_after_one_that_has_gone() {
    for (timeout, sends, mut body) in both().await {
        for woken in [false, true] {
            let mut gone = task::spawn(());
            assert_pending!(poll(&mut gone, &mut body));
            if woken {
                send(&sends, 1_000);
                assert!(gone.is_woken());
                advance(LATE).await;
            }
            drop(gone);
            let mut reader = task::spawn(());
            if woken {
                assert!(assert_ready!(poll(&mut reader, &mut body)).is_some());
            }
            assert_pending!(poll(&mut reader, &mut body));
            assert!(!reader.is_woken());
            send(&sends, 1_000);
            assert!(reader.is_woken());
            assert!(assert_ready!(poll(&mut reader, &mut body)).is_some());
        }
        assert_eq!(timeout.snapshot().timed_out_total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_falls_silent_is_cut_off_within_two_windows() {
    for (timeout, sends, mut body) in both().await {
        send(&sends, 1_000_000);
        assert!(assert_ready!(poll(&mut task::spawn(()), &mut body)).is_some());
        let start = Instant::now();
        let cut = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let end = cut.unwrap().map(|_| ());
        assert_eq!(cut_of(end), Some((BodyLimit::Rate, Kind::TimedOut)));
        assert!(
            start.elapsed() <= 2 * WINDOW + 2 * MS,
            "{:?}",
            start.elapsed()
        );
        assert_eq!(timeout.snapshot().timed_out_total, 1);
    }
}

/// What the sender needs counts, and nothing but that: half of the rate is cut off however late its
/// reader comes.
#[tokio::test(start_paused = true)]
async fn a_sender_below_the_rate_is_cut_off_however_late_its_reader_comes() {
    for (timeout, sends, mut body) in both().await {
        let mut reader = task::spawn(());
        let cut = loop {
            match poll(&mut reader, &mut body) {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(_))) => continue,
                Poll::Ready(end) => break end.unwrap().unwrap_err(),
            }
            advance(1_000 * MS).await;
            send(&sends, 500);
            advance(LATE).await;
        };
        assert_eq!(cut_of(Err(cut)), Some((BodyLimit::Rate, Kind::TimedOut)));
        assert_eq!(timeout.snapshot().timed_out_total, 1);
    }
}
