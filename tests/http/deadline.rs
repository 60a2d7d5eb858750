use buttress::{
    Error, Kind,
    http::{DeadlineHeaderClientLayer, DeadlineHeaderLayer, Http, RespondLayer},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
type Failure = Error<std::io::Error>;

fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    request
}

/// An answer that says how much time was left.
fn left(time: Duration) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    response.extensions_mut().insert(time);
    response
}

fn left_of<B>(response: &Response<B>) -> Duration {
    *response.extensions().get().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_the_time_from_the_headers_but_no_more_than_its_own_maximum() {
    let max = 2_000;
    for (headers, millis) in [
        (&[][..], max),
        (&[("x-request-timeout-ms", "1500")], 1_500),
        (&[("x-request-timeout-ms", "5000")], max),
        (
            &[("x-request-timeout-ms", "99999999999999999999999999")],
            max,
        ),
        (&[("x-request-timeout-ms", "-1")], max),
        (&[("x-request-timeout-ms", "soon")], max),
        (&[("grpc-timeout", "1S")], 1_000),
        (&[("grpc-timeout", "250m")], 250),
        (&[("grpc-timeout", "99H")], max),
        (&[("grpc-timeout", "123456789n")], max),
        (
            &[("grpc-timeout", "1S"), ("x-request-timeout-ms", "700")],
            700,
        ),
        (
            &[("grpc-timeout", "1s"), ("x-request-timeout-ms", "700")],
            700,
        ),
    ] {
        let service = service_fn(async |request: Request<()>| {
            let ambient = Deadline::current().unwrap();
            assert_eq!(request.extensions().get(), Some(&ambient));
            Ok::<_, Failure>(left(ambient.remaining()))
        });
        let layer = DeadlineHeaderLayer::at_most("server", max * MS);
        let answer = layer.layer(service).oneshot(request(headers)).await;
        assert_eq!(left_of(&answer.unwrap()), millis * MS, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_cuts_the_call_off_and_answers_504() {
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let hang = service_fn(move |_: Request<()>| {
        *count.lock().unwrap() += 1;
        pending::<Result<Response<axum::body::Body>, std::convert::Infallible>>()
    });
    let layer = DeadlineHeaderLayer::at_most("server", 500 * MS);
    let service = RespondLayer::new(Http, layer).layer(hang);
    let start = Instant::now();
    let answer = service
        .clone()
        .oneshot(request(&[("grpc-timeout", "90m")]))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!((90..92).contains(&start.elapsed().as_millis()));
    // Nobody waits for this one, so nothing is done for it.
    let answer = service
        .oneshot(request(&[("x-request-timeout-ms", "0")]))
        .await
        .unwrap();
    assert_eq!(
        (answer.status(), *calls.lock().unwrap()),
        (StatusCode::GATEWAY_TIMEOUT, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_tells_what_is_left_rounded_down() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&sent);
    let service = service_fn(move |request: Request<()>| {
        let get = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        note.lock()
            .unwrap()
            .push((get("x-request-timeout-ms"), get("grpc-timeout")));
        async { Ok::<_, Failure>(()) }
    });
    let client = DeadlineHeaderClientLayer::new("client").layer(service);
    let send = |headers| client.clone().oneshot(request(headers));
    let grpc = &[
        ("content-type", "application/grpc"),
        ("grpc-timeout", "50m"),
    ][..];

    send(&[]).await.unwrap();
    let deadline = Deadline::within(Duration::from_nanos(120_900_000));
    deadline.scope(send(&[])).await.unwrap();
    deadline.scope(send(&grpc[..1])).await.unwrap();
    deadline.scope(send(grpc)).await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        *sent.lock().unwrap(),
        [
            (None, None),
            (some("120"), None),
            (some("120"), some("120900u")),
            (some("50"), some("50000000n")),
        ]
    );
    sleep(120 * MS).await;
    let Err(Error::Rejected(rejected)) = deadline.scope(send(&[])).await else {
        panic!("sent with less than a millisecond left");
    };
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (Kind::DeadlineExceeded, "client")
    );
    assert!(!rejected.reached_service());
    assert_eq!(sent.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_goes_from_process_to_process_and_gets_nearer_on_the_way() {
    // Two hops, each in a task of its own, as if on another machine.
    let leaf = service_fn(async |_: Request<()>| {
        Ok::<_, Failure>(left(Deadline::current().unwrap().remaining()))
    });
    let leaf = DeadlineHeaderLayer::at_most("leaf", Duration::MAX).layer(leaf);
    let to_leaf = DeadlineHeaderClientLayer::new("to leaf").layer(service_fn(move |request| {
        let leaf = leaf.clone();
        async move { tokio::spawn(leaf.oneshot(request)).await.unwrap() }
    }));
    let middle = service_fn(move |_: Request<()>| {
        let to_leaf = to_leaf.clone();
        async move {
            sleep(300 * MS).await;
            let answer = to_leaf.oneshot(request(&[])).await?;
            Ok::<_, Failure>(left(left_of(&answer)))
        }
    });
    let middle = DeadlineHeaderLayer::at_most("middle", Duration::from_secs(60)).layer(middle);
    let to_middle = DeadlineHeaderClientLayer::new("to middle").layer(service_fn(move |request| {
        let middle = middle.clone();
        async move { tokio::spawn(middle.oneshot(request)).await.unwrap() }
    }));
    let edge = DeadlineLayer::within("edge", 1_000 * MS).layer(to_middle);
    let left = left_of(&edge.oneshot(request(&[])).await.unwrap());
    assert!(left <= 700 * MS && left >= 695 * MS, "{left:?}");
}
