#![cfg(all(feature = "http", feature = "retry"))]
#![allow(missing_docs)]

use buttress::{
    Error, Kind, Rejected,
    http::{Http, HttpReplay, Idempotent, ReplayBody, RespondLayer, ServerErrorsAsFailures},
    retry::{Attempt, Backoff, Jitter, Retry, RetryLayer},
};
use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
type Answer = Response<&'static str>;

fn layer() -> RetryLayer<HttpReplay, ServerErrorsAsFailures> {
    let backoff = Backoff::exponential(10 * MS).jitter(Jitter::None);
    Retry::builder("api")
        .backoff(backoff)
        .build()
        .unwrap()
        .layer()
        .http()
}

fn answer(status: u16) -> Answer {
    let mut response = Response::new("body");
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn with(status: u16, name: &'static str, value: &str) -> Answer {
    let mut response = answer(status);
    response
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).unwrap());
    response
}

/// What an attempt was like: when, its body, its trailers' number, its headers and number.
#[derive(Debug)]
struct Seen {
    at: Instant,
    body: Bytes,
    trailers: usize,
    head: http::request::Parts,
}

/// A service that reads this many frames (all: `usize::MAX`) and gives these answers in turn.
#[derive(Clone, Default)]
struct Origin(Arc<Mutex<(Vec<Seen>, Vec<Answer>)>>);

impl Origin {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self(Arc::new(Mutex::new((Vec::new(), answers))))
    }
    fn calls(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }
    fn seen<T>(&self, f: impl Fn(&Seen) -> T) -> Vec<T> {
        self.0.lock().unwrap().0.iter().map(f).collect()
    }
    fn wait(&self) -> u128 {
        let at = self.seen(|seen| seen.at);
        (at[1] - at[0]).as_millis()
    }
    fn service<B>(
        &self,
        frames: usize,
    ) -> impl Service<Request<B>, Response = Answer, Error = Error<io::Error>> + Clone
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let origin = self.clone();
        service_fn(move |request: Request<B>| {
            let origin = origin.clone();
            async move {
                let (head, mut body) = request.into_parts();
                let (mut read, mut trailers, mut count) = (Vec::new(), 0, 0);
                while count < frames
                    && let Some(frame) = body.frame().await
                {
                    count += 1;
                    let frame = frame.map_err(|_| Error::Service(io::Error::other("body")))?;
                    match frame.into_data() {
                        Ok(data) => read.extend(data),
                        Err(frame) => trailers += frame.into_trailers().unwrap().len(),
                    }
                }
                let mut this = origin.0.lock().unwrap_or_else(PoisonError::into_inner);
                this.0.push(Seen {
                    at: Instant::now(),
                    body: read.into(),
                    trailers,
                    head,
                });
                Ok(this.1.pop().unwrap_or_else(|| answer(200)))
            }
        })
    }
}

fn request(method: Method) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("http://api/x");
    request.body(Full::from("payload")).unwrap()
}

fn frames(frames: &[&'static str]) -> impl Body<Data = Bytes, Error = io::Error> + Unpin + use<> {
    let mut all = Vec::new();
    for frame in frames {
        all.push(Ok(Frame::data(Bytes::from_static(frame.as_bytes()))));
    }
    StreamBody::new(stream::iter(all))
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_repeated_is() {
    let idempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"];
    for method in [
        "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "PATCH", "CONNECT", "ODD",
    ] {
        let origin = Origin::answering([answer(503), answer(200)]);
        let method = method.parse::<Method>().unwrap();
        let status = layer()
            .layer(origin.service(9))
            .oneshot(request(method.clone()))
            .await;
        let safe = idempotent.contains(&method.as_str());
        assert_eq!(
            status.unwrap().status(),
            if safe { 200 } else { 503 },
            "{method}"
        );
        assert_eq!(origin.calls(), if safe { 2 } else { 1 }, "{method}");
    }
    let mut keyed = request(Method::POST);
    keyed
        .headers_mut()
        .insert("Idempotency-Key", HeaderValue::from_static("\"7\""));
    let mut marked = request(Method::PATCH);
    marked.extensions_mut().insert(Idempotent);
    for (request, layer) in [
        (keyed, layer()),
        (marked, layer()),
        (request(Method::POST), layer().all_methods()),
    ] {
        let origin = Origin::answering([answer(503), answer(200)]);
        let answer = layer
            .layer(origin.service(9))
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), origin.calls()), (200, 2));
    }
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

// case 31
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

// case 28
#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_to_and_garbage_ignored() {
    let date = |ahead: u64| {
        let at = SystemTime::now() + Duration::from_secs(ahead);
        httpdate::fmt_http_date(at)
    };
    let past = "Wed, 21 Oct 2015 07:28:00 GMT".to_owned();
    for (value, from, to) in [
        ("3".to_owned(), 3_000, 3_301),
        ("0".to_owned(), 10, 12),
        (date(20), 18_900, 22_001),
        (past, 10, 12),
        ("soon".to_owned(), 10, 11),
        ("-5".to_owned(), 10, 11),
    ] {
        for status in [429, 500, 503] {
            let origin = Origin::answering([with(status, "retry-after", &value)]);
            let answer = layer()
                .layer(origin.service(9))
                .oneshot(request(Method::GET))
                .await;
            assert_eq!(answer.unwrap().status(), 200, "{value}");
            assert!(
                (from..=to).contains(&origin.wait()),
                "{value}: {}",
                origin.wait()
            );
        }
    }
    let origin = Origin::answering([with(503, "retry-after", "61")]);
    let answer = layer()
        .layer(origin.service(9))
        .oneshot(request(Method::GET))
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), origin.calls()), (503, 1));
    assert_eq!(answer.headers()["retry-after"], "61");
}

// case 29
#[tokio::test(start_paused = true)]
async fn grpc_pushback_is_kept_to_exactly_and_anything_else_in_its_place_stops() {
    for (value, wait) in [("70", 70), ("0", 0)] {
        let origin = Origin::answering([with(503, "grpc-retry-pushback-ms", value)]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.wait(), wait);
    }
    for value in ["-1", "", "soon", "1.5", "99999999999"] {
        let origin = Origin::answering([with(503, "grpc-retry-pushback-ms", value)]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.calls(), 1, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_the_attempt_travels_with_the_request() {
    let origin = Origin::answering([answer(503), answer(503)]);
    let mut grpc = request(Method::POST);
    grpc.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("application/grpc+proto"),
    );
    grpc.headers_mut()
        .insert("x-kept", HeaderValue::from_static("yes"));
    let _ = layer()
        .all_methods()
        .layer(origin.service(9))
        .oneshot(grpc)
        .await;
    let attempts = origin.seen(|seen| seen.head.extensions.get().copied());
    assert_eq!(attempts, [None, Some(Attempt(2)), Some(Attempt(3))]);
    let previous = |seen: &Seen| seen.head.headers.get("grpc-previous-rpc-attempts").cloned();
    let number = |n| Some(HeaderValue::from_static(n));
    assert_eq!(origin.seen(previous), [None, number("1"), number("2")]);
    assert!(
        origin
            .seen(|seen| seen.head.headers["x-kept"] == "yes")
            .iter()
            .all(|kept| *kept)
    );

    let origin = Origin::answering([answer(503)]);
    let _ = layer()
        .layer(origin.service(9))
        .oneshot(request(Method::GET))
        .await;
    assert_eq!(origin.seen(previous), [None, None]);
}

// case 30
#[tokio::test(start_paused = true)]
async fn an_answer_that_a_policy_below_gave_is_not_asked_for_again() {
    for (kind, calls) in [
        (Kind::CircuitOpen, 1),
        (Kind::RateLimited, 1),
        (Kind::TimedOut, 2),
    ] {
        let mut refused = answer(503);
        refused
            .extensions_mut()
            .insert(Rejected::new(kind, "below"));
        let origin = Origin::answering([refused]);
        let _ = layer()
            .layer(origin.service(9))
            .oneshot(request(Method::GET))
            .await;
        assert_eq!(origin.calls(), calls, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_lets_go_of_its_connection_before_the_wait() {
    struct Connection(Arc<Mutex<Vec<Instant>>>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(Instant::now());
        }
    }
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&dropped);
    let service = service_fn(move |_: Request<_>| {
        let connection = Connection(Arc::clone(&held));
        async { Ok::<_, Error<io::Error>>(answer(503).map(|_| connection)) }
    });
    let start = Instant::now();
    let last = layer().layer(service).oneshot(request(Method::GET)).await;
    assert_eq!(start.elapsed(), 30 * MS);
    let at: Vec<_> = dropped
        .lock()
        .unwrap()
        .iter()
        .map(|at| *at - start)
        .collect();
    assert_eq!(at, [Duration::ZERO, 10 * MS]);
    drop(last);
}

#[tokio::test]
async fn over_tcp_between_hyper_and_axum() {
    use axum::{Router, routing::put};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let handler = move |body: String| {
        let note = Arc::clone(&note);
        async move {
            note.lock().unwrap().push(body);
            match note.lock().unwrap().len() {
                1 | 2 => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                _ => (StatusCode::OK, "stored"),
            }
        }
    };
    // On the server too: there it repeats what its own routes failed to do.
    let inner = Retry::builder("routes")
        .attempts(2)
        .backoff(Backoff::constant(MS))
        .build();
    let inner = RespondLayer::new(Http, inner.unwrap().layer().http());
    let app: Router = Router::new().route("/x", put(handler)).layer(inner);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Full<Bytes>>>();
    let retry = Retry::builder("api")
        .attempts(2)
        .backoff(Backoff::constant(MS))
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(retry.layer().http())
        .map_err(Error::Service)
        .service(client);
    let request = Request::put(format!("http://{address}/x"))
        .body(Full::from("payload"))
        .unwrap();
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "stored"
    );
    assert_eq!(*seen.lock().unwrap(), ["payload"; 3]);
    assert_eq!(retry.snapshot().retries, 1);
    server.abort();
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
