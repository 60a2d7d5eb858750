//! Probes whose answers go on for longer than a probe may take.

use buttress::{
    CircuitBreaker, Error, Guard, GuardBase, GuardLayer, Now, Outcome,
    circuit_breaker::State,
    guard::{Admission, End, Never},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

type Fails = Error<io::Error>;
type Event = Result<Frame<Bytes>, io::Error>;

const SECOND: Duration = Duration::from_secs(1);

fn event() -> Event {
    Ok(Frame::data(Bytes::from_static(b"data: tick\n\n")))
}

/// A response whose body has an event every second, so many of them, and then this end.
fn events(
    seconds: usize,
    end: Option<Event>,
) -> Response<impl Body<Data = Bytes, Error = io::Error>> {
    let ticks = stream::iter(0..seconds).then(|_| async {
        sleep(SECOND).await;
        event()
    });
    let body = StreamBody::new(Box::pin(ticks.chain(stream::iter(end))));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).unwrap()
}

/// Half-open, without a success that is known.
async fn half_open() -> CircuitBreaker {
    let breaker = CircuitBreaker::builder("events").open_jitter(0.0);
    let breaker = breaker.consecutive_failures(1).build().unwrap();
    let failed: Result<(), Fails> = breaker
        .run(async || Err(Error::Service(io::Error::other("gone"))))
        .await;
    assert!(failed.is_err());
    advance(5 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

async fn read(body: impl Body<Data = Bytes, Error = io::Error>) {
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_head_closes_it_before_the_body_has_ended() {
    let breaker = half_open().await;
    let service = service_fn(async |()| Ok::<_, Fails>(events(11, None)));
    let service = breaker.layer().http().layer(service);
    let mut answered = 0;
    // A call every quarter of a second: 5 of 179 were answered when the body had to end first.
    for _ in 0..179 {
        if let Ok(response) = service.clone().oneshot(()).await {
            answered += 1;
            tokio::spawn(read(response.into_body()));
        }
        sleep(SECOND / 4).await;
    }
    assert_eq!((answered, breaker.state()), (179, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_first_message_closes_it_before_the_trailers() {
    let breaker = half_open().await;
    let service = service_fn(async |()| Ok::<_, Fails>(events(20, None)));
    let service = breaker.layer().grpc().layer(service);
    let response = service.oneshot(()).await.unwrap();
    let mut body = pin!(response.into_body());
    assert_eq!(breaker.state(), State::HalfOpen, "no message yet");
    body.frame().await.unwrap().unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_after_a_good_head_is_counted_all_the_same() {
    let breaker = half_open().await;
    let broken = || Some(Err(io::Error::other("reset")));
    let service = service_fn(async |()| Ok::<_, Fails>(events(2, broken())));
    let service = breaker.layer().http().layer(service);
    let response = service.oneshot(()).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
    read(response.into_body()).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.failures_total, snapshot.failures), (2, 1));
    assert_eq!(snapshot.state, State::Open, "one in a row is enough here");
}

#[tokio::test(start_paused = true)]
async fn a_bad_head_opens_it_again_though_its_body_never_ends() {
    let breaker = half_open().await;
    let service = service_fn(async |()| {
        let mut response = events(1_000, None);
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        Ok::<_, Fails>(response)
    });
    let response = breaker.layer().http().layer(service).oneshot(()).await;
    assert_eq!(breaker.state(), State::Open);
    drop(response);
    assert_eq!(breaker.snapshot().failures_total, 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_the_head_is_what_a_hang_is_compared_with() {
    // Streams of a minute, which begin after 100 ms, or at once.
    for wait in [SECOND / 10, Duration::ZERO] {
        let breaker = CircuitBreaker::new("events");
        let service = service_fn(move |()| async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            Ok::<_, Fails>(events(60, None))
        });
        let service = breaker.layer().http().layer(service);
        for _ in 0..20 {
            let response = service.clone().oneshot(()).await.unwrap();
            tokio::spawn(read(response.into_body()));
        }
        sleep(120 * SECOND).await;
        // It hangs from now on, and all leave after a second.
        let hangs =
            service_fn(async |()| std::future::pending::<Result<Response<String>, Fails>>().await);
        let hangs = breaker.layer().http().layer(hangs);
        for n in 0..60 {
            if n == 22 && !wait.is_zero() {
                assert_eq!(breaker.state(), State::Open);
            }
            let _ = tokio::time::timeout(SECOND, hangs.clone().oneshot(())).await;
        }
        assert!(breaker.snapshot().trips_total > 0, "{wait:?}");
    }
}

/// Writes down what it hears of answers.
#[derive(Clone, Default)]
struct Hears(Arc<Mutex<Vec<Outcome>>>);

impl GuardBase for Hears {
    type Permit = ();
    type Wait = Never;
    fn settle(&self, (): (), _: End, _: &Now) {}
    fn on_answer(&self, (): &mut (), outcome: Outcome, _: &Now) {
        self.0.lock().unwrap().push(outcome);
    }
}

impl<Req> Guard<Req> for Hears {
    fn admit(&self, _: &Req, _: &Now) -> Admission<()> {
        Admission::Admitted(())
    }
}

#[tokio::test(start_paused = true)]
async fn every_guard_of_a_tuple_hears_of_an_answer_once() {
    let hears = Hears::default();
    let one = || hears.clone();
    let service = service_fn(async |()| Ok::<_, Fails>(events(3, None)));
    macro_rules! through {
        ($guard:expr) => {
            let http = GuardLayer::new($guard).http().layer(service.clone());
            read(http.oneshot(()).await.unwrap().into_body()).await;
            let grpc = GuardLayer::new($guard).grpc().layer(service.clone());
            read(grpc.oneshot(()).await.unwrap().into_body()).await;
        };
    }
    through!(one());
    through!((one(), one()));
    through!((one(), one(), one()));
    through!((one(), one(), one(), one()));
    let heard = hears.0.lock().unwrap().clone();
    assert_eq!(heard, [Outcome::Success; 20]);
    // A body that has ended when the head is there is the end of the call, and no more.
    let empty = service_fn(async |()| Ok::<_, Fails>(Response::new(String::new())));
    GuardLayer::new(one())
        .http()
        .layer(empty)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(hears.0.lock().unwrap().len(), 20);
}
