//! The body that holds a permit, polled frame by frame.

use crate::tally::{FAILURE, REFUSED, SUCCESS, Tally};
use buttress::ErrorsAsFailures;
use buttress::{
    Error, FromRejected, Guard, GuardBase, GuardLayer, Kind, Now,
    guard::{Admission, End, Never, WaitProgress},
    http::{Http, RespondLayer},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    convert::Infallible,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower::{Layer, Service, ServiceExt};

/// The guarded response with this body.
async fn held<B>(tally: &Tally, body: B) -> impl Body<Data = B::Data, Error = B::Error>
where
    B: Body<Error: 'static>,
{
    let mut body = Some(body);
    let service = tower::service_fn(move |()| {
        let body = body.take().unwrap();
        async { Ok::<_, Error<Infallible>>(Response::new(body)) }
    });
    let guarded = GuardLayer::new(tally.clone()).http().layer(service);
    guarded.oneshot(()).await.unwrap().into_body()
}

#[tokio::test]
async fn a_body_that_says_it_has_ended_ends_the_call_while_it_is_still_there() {
    let tally = Tally::default();
    let mut body = pin!(held(&tally, Full::new(Bytes::from("text"))).await);
    assert_eq!(body.size_hint().exact(), Some(4));
    assert!(!body.is_end_stream() && tally.ends().is_empty());
    assert!(body.frame().await.is_some());
    assert!(body.is_end_stream());
    assert_eq!(tally.ends(), [SUCCESS]);

    let empty = held(&tally, Empty::<Bytes>::new()).await;
    assert!(empty.is_end_stream());
    assert_eq!(tally.ends(), [SUCCESS; 2]);
}

#[tokio::test]
async fn trailers_and_the_end_of_a_stream_end_the_call_and_pass_unchanged() {
    let tally = Tally::default();
    let frames = || {
        let trailers = http::HeaderMap::from_iter([(http::header::AGE, "1".parse().unwrap())]);
        let frames = [Frame::data(Bytes::from("a")), Frame::trailers(trailers)];
        stream::iter(frames.map(Ok::<_, Infallible>))
    };
    let mut body = pin!(held(&tally, StreamBody::new(frames())).await);
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "a"
    );
    assert!(tally.ends().is_empty());
    let trailers = body.frame().await.unwrap().unwrap().into_trailers();
    assert_eq!(trailers.unwrap()["age"], "1");
    assert_eq!(tally.ends(), [SUCCESS]);

    let data = StreamBody::new(frames().take(1));
    let mut body = pin!(held(&tally, data).await);
    assert!(body.frame().await.is_some() && tally.ends().len() == 1);
    assert!(body.frame().await.is_none());
    assert_eq!(tally.ends(), [SUCCESS; 2]);
}

#[tokio::test]
async fn a_rejection_by_a_policy_that_the_body_asks_is_not_the_services_failure() {
    let (tally, inner) = (Tally::default(), Tally::default());
    inner.refuse(Kind::CircuitOpen);
    let part = tower::service_fn(|()| async { Ok::<_, Error<Infallible>>("part") });
    let part = GuardLayer::new(inner)
        .classify(ErrorsAsFailures)
        .layer(part);
    let frames = stream::once(part.oneshot(()).map(|part| {
        let part = part?;
        Ok::<_, Error<Infallible>>(Frame::data(Bytes::from(part)))
    }));
    let mut body = pin!(held(&tally, StreamBody::new(frames)).await);
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(tally.ends(), [REFUSED]);
}

/// Frames that end in this error, made in the last poll; also if it was not made there.
fn ending_in<E>(error: impl Fn() -> E) -> impl Body<Data = Bytes, Error = E> {
    let data = stream::once(async { Ok(Frame::data(Bytes::from_static(b"x"))) });
    StreamBody::new(data.chain(stream::once(async move { Err(error()) })))
}

/// How a call ends whose body ends in this error.
async fn end_of<E: std::fmt::Debug + 'static>(error: impl Fn() -> E) -> Vec<End> {
    let tally = Tally::default();
    let mut body = pin!(held(&tally, ending_in(error)).await);
    assert!(body.frame().await.unwrap().is_ok());
    assert!(tally.ends().is_empty());
    assert!(body.frame().await.unwrap().is_err());
    tally.ends()
}

/// Refuses something in this poll.
fn refuse<E: FromRejected>() -> E {
    let breaker = buttress::CircuitBreaker::new("part");
    breaker.force_open();
    let part = breaker.run(|| async { Ok::<_, E>(()) });
    part.now_or_never().unwrap().unwrap_err()
}

#[derive(Debug)]
enum Reading {
    Refused(buttress::Rejected),
    Broken,
}

impl From<buttress::Rejected> for Reading {
    fn from(rejected: buttress::Rejected) -> Self {
        Self::Refused(rejected)
    }
}

#[tokio::test]
async fn a_bodys_error_is_asked_where_it_came_from_and_the_note_only_if_it_cannot_say() {
    type Known = Error<io::Error>;
    type BoxError = Box<dyn std::error::Error + Send + Sync>;
    buttress::recognize(|error: &Reading| match error {
        Reading::Refused(rejected) => Some(*rejected),
        Reading::Broken => None,
    });
    let open: buttress::Rejected = refuse();
    // A refusal that was made elsewhere, in a task or before something was awaited.
    assert_eq!(end_of(|| open).await, [REFUSED]);
    let _: Known = refuse();
    assert_eq!(end_of(|| Known::Rejected(open)).await, [REFUSED]);
    assert_eq!(end_of(|| Reading::Refused(open)).await, [REFUSED]);
    assert_eq!(end_of(|| BoxError::from(open)).await, [REFUSED]);
    assert_eq!(end_of(|| axum::Error::new(open)).await, [REFUSED]);
    // One that was swallowed in the same poll, and then the service failed.
    let failed = end_of(|| {
        let _: Known = refuse();
        Known::Service(io::Error::other("gone"))
    });
    assert_eq!(failed.await, [FAILURE]);
    let failed = end_of(|| {
        let _: Reading = refuse();
        Reading::Broken
    });
    assert_eq!(failed.await, [FAILURE]);
    // An error that cannot say: the note decides.
    let refused = end_of(|| {
        let _: Known = refuse();
        "cut short"
    });
    assert_eq!(refused.await, [REFUSED]);
    assert_eq!(end_of(|| "cut short").await, [FAILURE]);
}

#[tokio::test]
async fn a_call_that_has_no_head_yet_is_cancelled_when_dropped() {
    let tally = Tally::default();
    let never = tower::service_fn(|()| {
        std::future::pending::<Result<Response<Full<Bytes>>, Error<Infallible>>>()
    });
    let guarded = GuardLayer::new(tally.clone()).http().layer(never);
    assert!(guarded.oneshot(()).now_or_never().is_none());
    assert_eq!(tally.ends(), [End::Cancelled]);
}

/// Its permits are free, so that only what carries them can cost anything.
#[derive(Clone)]
struct Free;

impl GuardBase for Free {
    type Permit = ();
    type Wait = Never;
    fn settle(&self, (): (), _: End, _: &Now) {}
    fn abandon(&self, wait: Self::Wait, _: &Now) {
        match wait {}
    }
}

impl<Req> Guard<Req> for Free {
    fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
        Admission::Admitted(())
    }
    fn poll_wait(
        &self,
        wait: &mut Self::Wait,
        _: &Req,
        _: &mut Context<'_>,
        _: &Now,
    ) -> WaitProgress<()> {
        match *wait {}
    }
}

#[tokio::test]
async fn nothing_is_allocated_when_nothing_is_rejected() {
    let service = tower::service_fn(|()| {
        let body = Full::new(Bytes::from_static(b"text"));
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let stack = (GuardLayer::new(Free).http(), GuardLayer::new(Free).http());
    let edge = RespondLayer::new(Http, stack);
    // As axum does: clones, and without state a layer call, per request.
    let call = || {
        let mut service = edge.clone().layer(service).clone();
        let response = pin!(service.call(())).poll_unpin(&mut noop());
        let Poll::Ready(Ok(response)) = response else {
            panic!("no response at once");
        };
        let mut body = pin!(response.into_body());
        while !body.is_end_stream() {
            assert!(body.as_mut().poll_frame(&mut noop()).is_ready());
        }
    };
    call();
    let allocated = allocation_counter::measure(call);
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_its_time_makes_its_call_slow() {
    let breaker = buttress::CircuitBreaker::new("pages");
    let (send, frames) = tokio::sync::mpsc::unbounded_channel();
    let frames = tokio_stream::wrappers::UnboundedReceiverStream::new(frames);
    let mut body = Some(StreamBody::new(frames));
    let page = tower::service_fn(move |()| {
        // The head is there at once.
        let body = body.take().unwrap();
        async { Ok::<_, Error<Infallible>>(Response::new(body)) }
    });
    let page = breaker.layer().http().layer(page);
    let body = page.oneshot(()).await.unwrap().into_body();

    let reader = tokio::spawn(body.collect());
    tokio::task::yield_now().await;
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    send.send(Ok::<_, Infallible>(Frame::data(Bytes::from("late"))))
        .unwrap();
    drop(send);
    assert_eq!(reader.await.unwrap().unwrap().to_bytes(), "late");
    let seen = breaker.snapshot();
    assert_eq!((seen.successes_total, seen.slow_calls_total), (1, 1));
}
