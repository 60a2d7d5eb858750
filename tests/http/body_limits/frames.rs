//! Frame by frame, in made-up time.

use super::{Failure, MS, answering, cut_of, dripping, read};
use crate::tally::{SUCCESS, Tally};
use buttress::{
    GuardLayer, Kind, Timeout,
    guard::End,
    http::{BodyLimit, DeadlineHeaderLayer, MinRate},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

fn request(millis: Option<u64>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(millis) = millis {
        let value = HeaderValue::from(millis);
        request.headers_mut().insert("x-request-timeout-ms", value);
    }
    request
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cuts_off_a_body_that_stalls_and_says_whose_it_was() {
    for (asked, at, end) in [(None, 100, End::TimedOut), (Some(40), 40, End::Cancelled)] {
        let (inside, outside) = (Tally::default(), Tally::default());
        let deadline = DeadlineHeaderLayer::at_most("server", 100 * MS);
        let stack = (
            GuardLayer::new(outside.clone()).http(),
            deadline.clone(),
            GuardLayer::new(inside.clone()).http(),
        );
        let service = stack.layer(answering(|| dripping(2, 5, 10 * MS)));
        let start = Instant::now();
        let response = service.oneshot(request(asked)).await.unwrap();
        let (bytes, result) = read(response.into_body()).await;
        assert_eq!(bytes, 10);
        let cut = (BodyLimit::Deadline, Kind::DeadlineExceeded);
        assert_eq!(cut_of(result), Some(cut));
        assert_eq!(start.elapsed(), at * MS);
        assert_eq!(inside.ends(), [end]);
        assert_eq!(outside.ends(), [end]);
        assert_eq!(deadline.snapshot().exceeded_total, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn permits_come_home_in_time_even_if_nobody_polls_the_body() {
    // Never polled; polled until there was nothing; polled while there was something.
    for frames in [0, 2, 1] {
        let tally = Tally::default();
        let inside = GuardLayer::new(tally.clone()).http();
        let service = inside.layer(answering(|| dripping(1, 5, 10 * MS)));
        let service = DeadlineLayer::within("all", 100 * MS).http().layer(service);
        let mut body = Box::pin(service.oneshot(()).await.unwrap().into_body());
        for _ in 0..frames {
            let _ = tokio::time::timeout(20 * MS, body.frame()).await;
        }
        assert_eq!(tally.in_flight(), 1);
        // Not by the test's own timer, which might be the later one.
        sleep(101 * MS).await;
        assert_eq!(tally.in_flight(), 0, "after {frames} polls");
        // A reader that did ask was kept waiting by the service; others were slow themselves.
        let told = matches!(tally.ends()[..], [End::TimedOut]);
        assert_eq!(told, frames == 2, "{:?}", tally.ends());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(cut_of(Err(error)).is_some());
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_holds_for_the_body_only_if_asked_and_a_deadline_in_any_case() {
    let timeout = Timeout::new("api", 100 * MS);
    let slow = || answering::<Request<()>, _, _>(|| dripping(3, 5, 80 * MS));
    let deadline = Deadline::within(1_000 * MS);
    for (layer, at, limit, kind) in [
        (
            timeout.layer().http(),
            1_000,
            BodyLimit::Deadline,
            Kind::DeadlineExceeded,
        ),
        (
            timeout.layer().http().whole(),
            100,
            BodyLimit::Whole,
            Kind::TimedOut,
        ),
        (
            timeout.layer().http().idle(90 * MS),
            330,
            BodyLimit::Idle,
            Kind::TimedOut,
        ),
        (
            timeout.layer().http().idle(70 * MS),
            70,
            BodyLimit::Idle,
            Kind::TimedOut,
        ),
    ] {
        let start = Instant::now();
        let call = async {
            let response = layer.layer(slow()).oneshot(request(None)).await.unwrap();
            // Read by somebody else, who does not know the deadline.
            response.into_body()
        };
        let deadline = Deadline::within(deadline.remaining().max(1_000 * MS));
        let body = deadline.scope(call).await;
        let (_, result) = tokio::spawn(read(body)).await.unwrap();
        assert_eq!(cut_of(result), Some((limit, kind)));
        assert_eq!(start.elapsed(), at * MS);
    }
    let seen = timeout.snapshot();
    assert_eq!((seen.timed_out_total, seen.deadline_exceeded_total), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drip_below_the_rate_is_cut_off_and_a_slow_reader_is_not() {
    let rate = MinRate::per_second(1_000).averaged_over(200 * MS);
    let timeout = Timeout::new("api", 100 * MS);
    let layer = timeout.layer().http().min_rate(rate);
    // 10 bytes every 20 ms are half of what is asked.
    let service = layer.layer(answering(|| dripping(1_000, 10, 20 * MS)));
    let start = Instant::now();
    let body = service.oneshot(request(None)).await.unwrap().into_body();
    let (bytes, result) = read(body).await;
    assert_eq!(cut_of(result), Some((BodyLimit::Rate, Kind::TimedOut)));
    assert!((80..=100).contains(&bytes), "{bytes}");
    assert!((200..=220).contains(&start.elapsed().as_millis()));

    // As much as is asked, and a reader who takes a second over each frame.
    let service = layer.layer(answering(|| dripping(20, 10, 10 * MS)));
    let body = service.oneshot(request(None)).await.unwrap().into_body();
    let mut body = Box::pin(body);
    for _ in 0..20 {
        assert!(body.frame().await.unwrap().is_ok());
        sleep(1_000 * MS).await;
    }
    assert_eq!(timeout.snapshot().timed_out_total, 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_time_passes_unchanged_and_is_over_at_its_end() {
    let trailers = || HeaderMap::from_iter([(http::header::AGE, HeaderValue::from(1))]);
    let tally = Tally::default();
    let inside = GuardLayer::new(tally.clone()).http();
    let inside = inside.layer(service_fn(move |()| async move {
        let frames = [Frame::data(Bytes::from("a")), Frame::trailers(trailers())];
        let frames = futures::stream::iter(frames.map(Ok::<_, std::io::Error>));
        Ok::<_, Failure>(Response::new(StreamBody::new(frames)))
    }));
    let layer = DeadlineLayer::within("all", 100 * MS).http();
    let mut body = Box::pin(layer.layer(inside).oneshot(()).await.unwrap().into_body());
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "a"
    );
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap(), trailers());
    assert!(body.is_end_stream());
    assert_eq!(tally.ends(), [SUCCESS]);
    advance(200 * MS).await;
    assert!(body.frame().await.is_none());

    let layer = DeadlineLayer::within("all", 100 * MS);
    let service = layer.clone().http();
    let service = service.layer(answering(|| Full::new(Bytes::from("text"))));
    let body = service.oneshot(()).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(4));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "text");
    assert_eq!(layer.snapshot().exceeded_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_has_ended_at_once_costs_nothing() {
    let layer = DeadlineLayer::within("all", 100 * MS).http();
    let service = layer.layer(answering(Empty::<Bytes>::new));
    let call = || {
        let mut cx = Context::from_waker(Waker::noop());
        let mut call = pin!(service.clone().oneshot(()));
        assert!(call.as_mut().poll(&mut cx).is_ready());
    };
    call();
    assert_eq!(allocation_counter::measure(call).count_total, 0);
}

/// Counts what a call through this layer allocates, up to its head and in the drop of its body.
fn cost<L, S>(layer: Option<L>, inner: S) -> u64
where
    L: Layer<S>,
    L::Service: tower::Service<Request<()>, Error = Failure> + Clone,
    S: tower::Service<Request<()>, Error = Failure> + Clone,
{
    fn poll<S: tower::Service<Request<()>> + Clone>(service: &S) -> u64 {
        let call = || {
            let mut cx = Context::from_waker(Waker::noop());
            let mut call = pin!(service.clone().oneshot(request(None)));
            assert!(call.as_mut().poll(&mut cx).is_ready());
        };
        call();
        allocation_counter::measure(call).count_total
    }
    match layer {
        Some(layer) => poll(&layer.layer(inner)),
        None => poll(&inner),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_on_costs_three_allocations_if_a_limit_holds_and_none_if_not() {
    let inner = || answering(|| Sleepy(0));
    let deadline = DeadlineLayer::within("all", 100 * MS).http();
    let timeout = Timeout::new("api", 100 * MS).layer().http();
    let none = None::<tower::layer::util::Identity>;
    assert_eq!(cost(none, inner()), 0);
    assert_eq!(cost(Some(deadline), inner()), 3);
    assert_eq!(cost(Some(timeout.clone()), inner()), 0, "no limit holds");
    assert_eq!(cost(Some(timeout.clone().idle(MS)), inner()), 3);
    assert_eq!(cost(Some(timeout.whole()), inner()), 3);
}

/// A body of which nothing has come yet.
struct Sleepy(#[expect(dead_code, reason = "a body without a size needs no box")] u64);
impl Body for Sleepy {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_looks_after_five_seconds_and_a_body_that_stops_is_cut_within_ten() {
    let timeout = Timeout::new("api", 100 * MS);
    let layer = timeout.layer().http().min_rate(MinRate::per_second(1));
    for (bytes, cut_after) in [(0, 5_000), (1_000_000, 10_000)] {
        let start = Instant::now();
        let service = layer.layer(answering(move || dripping(1, bytes, MS)));
        let body = service.oneshot(request(None)).await.unwrap().into_body();
        let (_, result) = read(body).await;
        assert_eq!(cut_of(result), Some((BodyLimit::Rate, Kind::TimedOut)));
        let elapsed = start.elapsed().as_millis();
        assert!((cut_after..=cut_after + 2).contains(&elapsed), "{elapsed}");
    }
}

/// A body that never ends, and panics when it is dropped.
struct Sore;
impl Drop for Sore {
    fn drop(&mut self) {
        panic!("dropped");
    }
}
impl Body for Sore {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_body_is_not_the_runtimes() {
    let tally = Tally::default();
    let inside = GuardLayer::new(tally.clone()).http();
    let service = inside.layer(answering(|| Sore));
    let service = DeadlineLayer::within("all", 100 * MS).http().layer(service);
    let body = service.oneshot(()).await.unwrap().into_body();
    sleep(200 * MS).await;
    assert_eq!(tally.in_flight(), 0);
    let (_, result) = read(body).await;
    assert!(cut_of(result).is_some());
}

#[tokio::test(start_paused = true)]
async fn zero_and_the_maximum_are_limits_like_others() {
    for (limit, within, expected) in [
        (Duration::ZERO, 1_000 * MS, BodyLimit::Idle),
        (Duration::MAX, 1_000 * MS, BodyLimit::Deadline),
    ] {
        let layer = Timeout::new("api", Duration::MAX).layer().http();
        let layer = layer.whole().idle(limit);
        let service = layer.layer(answering(|| dripping(1, 5, 10 * MS)));
        let call = service.oneshot(request(None));
        let body = Deadline::within(within)
            .scope(call)
            .await
            .unwrap()
            .into_body();
        let (_, result) = read(body).await;
        assert_eq!(cut_of(result).map(|(limit, _)| limit), Some(expected));
    }
}
