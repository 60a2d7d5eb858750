//! What policies do for any service, at the edges of HTTP and gRPC.

use crate::tally::{FAILURE, Tally};
use buttress::{
    CircuitBreaker, Error, GuardLayer, Kind, Timeout,
    circuit_breaker::State,
    grpc::Grpc,
    http::{BodyLimit, Http, RespondLayer},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
type Failure = Error<io::Error>;

/// The limit that a request asks for: in a header, or by its path.
fn asked(request: &Request<()>) -> Duration {
    let hurry = request.headers().get("x-hurry-ms");
    let hurry = hurry.and_then(|ms| ms.to_str().ok()?.parse().ok());
    match (hurry, request.uri().path()) {
        (Some(ms), _) => Duration::from_millis(ms),
        (None, "/reports") => Duration::MAX,
        (None, _) => 200 * MS,
    }
}

fn request(path: &str, hurry: Option<u64>) -> Request<()> {
    let mut request = Request::get(path);
    if let Some(ms) = hurry {
        request = request.header("x-hurry-ms", ms);
    }
    request.body(()).unwrap()
}

/// What a request asks for, within which deadline, and when its call ends by which of them.
const LIMITS: [(&str, Option<u64>, u32, u32, Kind); 6] = [
    ("/", None, 5_000, 200, Kind::TimedOut),
    ("/reports", None, 5_000, 300, Kind::TimedOut),
    ("/", Some(100), 5_000, 100, Kind::TimedOut),
    ("/reports", Some(u64::MAX), 5_000, 300, Kind::TimedOut),
    ("/", Some(100), 50, 50, Kind::DeadlineExceeded),
    ("/", Some(0), 5_000, 0, Kind::TimedOut),
];

#[tokio::test(start_paused = true)]
async fn a_request_sets_its_timeout_by_header_and_route_up_to_the_head() {
    let timeout = Timeout::new("api", 300 * MS);
    let layer = || timeout.layer().limit_by(asked);
    let hang = || {
        service_fn(|_: Request<()>| async {
            sleep(1_000 * MS).await;
            Ok::<_, Failure>(Response::new(Full::<Bytes>::default()))
        })
    };
    for (path, hurry, within, ends, kind) in LIMITS {
        let calls = [
            layer().http().layer(hang()).oneshot(request(path, hurry)),
            layer().grpc().layer(hang()).oneshot(request(path, hurry)),
        ];
        for call in calls {
            let start = Instant::now();
            let answer = Deadline::within(within * MS).scope(call).await;
            assert_eq!(start.elapsed(), ends * MS, "{path} {hurry:?}");
            let Err(Error::Rejected(rejected)) = answer.map(drop) else {
                panic!("{path} {hurry:?} was answered");
            };
            assert_eq!(rejected.kind(), kind, "{path} {hurry:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_sets_its_timeout_up_to_the_end_of_the_body_where_that_holds_for_it() {
    let timeout = Timeout::new("api", 300 * MS);
    let layer = || timeout.layer().limit_by(asked);
    let stall = || {
        service_fn(|_: Request<()>| async {
            let body = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok::<_, Failure>(Response::new(StreamBody::new(body)))
        })
    };
    for (path, hurry, within, ends, kind) in LIMITS {
        let calls = [
            layer()
                .http()
                .whole()
                .layer(stall())
                .oneshot(request(path, hurry)),
            layer().grpc().layer(stall()).oneshot(request(path, hurry)),
        ];
        for call in calls {
            let start = Instant::now();
            let answer = Deadline::within(within * MS).scope(call).await.unwrap();
            let error = answer.into_body().collect().await.unwrap_err();
            assert_eq!(start.elapsed(), ends * MS, "{path} {hurry:?}");
            let cut = error.downcast_ref::<buttress::http::BodyCut>().unwrap();
            let limit = match kind {
                Kind::TimedOut => BodyLimit::Whole,
                _ => BodyLimit::Deadline,
            };
            assert_eq!((cut.limit(), cut.rejected().kind()), (limit, kind));
        }
    }
}

/// A service whose connection cannot be made.
#[derive(Clone)]
struct Unconnected;

impl Service<Request<()>> for Unconnected {
    type Response = Response<Empty<Bytes>>;
    type Error = Failure;
    type Future = std::future::Ready<Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        Poll::Ready(Err(Error::Service(refused)))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        panic!("called without a connection")
    }
}

#[tokio::test]
async fn connections_that_cannot_be_made_count_in_every_protocol_and_mode() {
    macro_rules! opens {
        ($($layer:expr),+ $(,)?) => {$({
            let breaker = CircuitBreaker::new("db");
            let layer = $layer(&breaker);
            for n in 1..=5 {
                assert_eq!(breaker.state(), State::Closed);
                assert!(layer.layer(Unconnected).oneshot(Request::new(())).await.is_err());
                assert_eq!(breaker.snapshot().failures_total, n);
            }
            assert_eq!(breaker.state(), State::Open);
        })+};
    }
    opens!(
        |breaker: &CircuitBreaker| breaker.layer().http(),
        |breaker: &CircuitBreaker| breaker.layer().grpc(),
        |breaker: &CircuitBreaker| breaker.layer().auto(),
        |breaker: &CircuitBreaker| breaker.layer().http().unready_when_open(),
        |breaker: &CircuitBreaker| breaker.layer().grpc().unready_when_open(),
        |breaker: &CircuitBreaker| GuardLayer::new((breaker.clone(), Tally::default())).http(),
        |breaker: &CircuitBreaker| GuardLayer::new(Some(breaker.clone())).grpc(),
        |breaker: &CircuitBreaker| (
            DeadlineLayer::within("all", 1_000 * MS).http(),
            Timeout::new("api", 1_000 * MS).layer().http(),
            breaker.layer().http(),
        ),
    );
}

/// Services that are never ready end at their limit, and are answered in their own protocol.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_answered_for_in_its_own_protocol() {
    #[derive(Clone)]
    struct Never;
    impl Service<Request<()>> for Never {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("called without being ready")
        }
    }
    let timeout = Timeout::new("api", 100 * MS);
    let deadline = DeadlineLayer::within("all", 100 * MS);
    let header = buttress::http::DeadlineHeaderLayer::at_most("all", 100 * MS);
    macro_rules! answers {
        ($($stack:expr => $kind:ident),+ $(,)?) => {$({
            for round in 0..2 {
                let start = Instant::now();
                let service = RespondLayer::new(Http, $stack).layer(Never);
                let answer = service.oneshot(Request::new(())).await.unwrap();
                assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
                let rejected: buttress::Rejected = *answer.extensions().get().unwrap();
                assert_eq!((rejected.kind(), rejected.reached_service()), (Kind::$kind, false));
                let service = RespondLayer::new(Grpc, $stack).layer(Never);
                let answer = service.oneshot(Request::new(())).await.unwrap();
                assert_eq!(answer.headers()["grpc-status"], "4");
                assert_eq!(start.elapsed(), 200 * MS, "{round}");
            }
        })+};
    }
    answers!(
        timeout.layer() => TimedOut,
        timeout.layer().http() => TimedOut,
        timeout.layer().grpc() => TimedOut,
        deadline.clone() => DeadlineExceeded,
        deadline.clone().http() => DeadlineExceeded,
        deadline.clone().grpc() => DeadlineExceeded,
        header.clone() => DeadlineExceeded,
        // What is further in is not asked whether it is ready for longer than that either.
        (deadline.clone().http(), CircuitBreaker::new("db").layer().http()) => DeadlineExceeded,
        (timeout.layer().http(), CircuitBreaker::new("db").layer().grpc()) => TimedOut,
    );
}

/// In the headers of an answer of trailers only, in trailers, and in the body of gRPC-Web.
#[tokio::test]
async fn details_that_are_no_base64_harm_nobody_wherever_they_stand() {
    type Body = UnsyncBoxBody<Bytes, io::Error>;
    let details = [
        "", "TQ", "TQ==", "TQ=", "T", "!!!!", "TQ==TQ==", "TW Fu", "====", "TR==",
    ];
    for detail in details {
        let answers: [fn(&'static str) -> Response<Body>; 3] = [
            |detail| {
                let response = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "13")
                    .header("grpc-status-details-bin", detail);
                let empty = Empty::new().map_err(|never: Infallible| match never {});
                response.body(empty.boxed_unsync()).unwrap()
            },
            |detail| {
                let response = Response::builder().header("content-type", "application/grpc");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "13".parse().unwrap());
                trailers.insert("grpc-status-details-bin", detail.parse().unwrap());
                let frames = stream::iter([Ok(Frame::trailers(trailers))]).boxed();
                response
                    .body(StreamBody::new(frames).boxed_unsync())
                    .unwrap()
            },
            |detail| {
                let text = format!("grpc-status: 13\r\ngrpc-status-details-bin: {detail}\r\n");
                let length = u32::try_from(text.len()).unwrap().to_be_bytes();
                let frame = [&[0x80], &length[..], text.as_bytes()].concat();
                let response =
                    Response::builder().header("content-type", "application/grpc-web+proto");
                let whole = Full::from(frame).map_err(|never: Infallible| match never {});
                response.body(whole.boxed_unsync()).unwrap()
            },
        ];
        for (place, answer) in answers.into_iter().enumerate() {
            let (grpc, auto) = (Tally::default(), Tally::default());
            let calls = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&calls);
            let retry = buttress::Retry::builder("again").attempts(2);
            let retry = retry.backoff(buttress::retry::Backoff::constant(Duration::ZERO));
            let stack = (
                GuardLayer::new(auto.clone()).auto(),
                GuardLayer::new(grpc.clone()).grpc(),
                retry.build().unwrap().layer().grpc(),
            );
            let service = stack.layer(service_fn(move |_: Request<tonic::body::Body>| {
                count.fetch_add(1, Relaxed);
                async move { Ok::<_, Failure>(answer(detail)) }
            }));
            let request = Request::new(tonic::body::Body::empty());
            let answer = service.oneshot(request).await.unwrap();
            let _ = answer.into_body().collect().await;
            // Only an answer that has not begun is asked for again.
            assert_eq!(
                calls.load(Relaxed),
                if place == 0 { 2 } else { 1 },
                "{place} {detail}"
            );
            assert_eq!(grpc.ends(), [FAILURE], "{place} {detail}");
            assert_eq!(auto.ends(), [FAILURE], "{place} {detail}");
        }
    }
}
