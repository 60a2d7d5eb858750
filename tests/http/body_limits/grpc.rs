//! gRPC: a call is over at its trailers.

use super::{Failure, MS, dripping};
use crate::{
    grpc::health::{asking, channel, serve},
    tally::Tally,
};
use axum::body::Body;
use buttress::{
    AsRejected, GuardLayer, Kind, Timeout,
    grpc::{self, CodesAsFailures, Grpc},
    guard::End,
    http::{DeadlineHeaderLayer, RespondLayer},
    timeout::DeadlineLayer,
};
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// Far more than any of these takes.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn a_call_that_misses_its_deadline_after_its_head_ends_with_trailers_that_say_so() {
    let (inside, outside) = (Tally::default(), Tally::default());
    let stack = (
        GuardLayer::new(outside.clone()).grpc(),
        DeadlineHeaderLayer::at_most("server", LONG),
        GuardLayer::new(inside.clone()).grpc(),
    );
    let service = stack.layer(service_fn(|_: Request<()>| async {
        let response = Response::builder().header("content-type", "application/grpc");
        Ok::<_, Failure>(response.body(dripping(0, 0, MS)).unwrap())
    }));
    let mut request = Request::new(());
    request
        .headers_mut()
        .insert("grpc-timeout", "50m".parse().unwrap());
    let start = Instant::now();
    let mut body = Box::pin(service.oneshot(request).await.unwrap().into_body());
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(start.elapsed(), 50 * MS);
    let trailers = frame.into_trailers().unwrap();
    let status = tonic::Status::from_header_map(&trailers).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "server: the body had not ended by the deadline"
    );
    assert!(body.frame().await.is_none());
    // It was the caller who had so little time.
    assert_eq!(
        (inside.ends(), outside.ends()),
        (vec![End::Cancelled], vec![End::Cancelled])
    );
}

/// A server that answers a unary call with its metadata, and with no message.
async fn early_metadata() -> std::net::SocketAddr {
    let app = axum::Router::new().fallback(|| async {
        let response = Response::builder().header("content-type", "application/grpc");
        response.body(Body::new(dripping(0, 0, MS))).unwrap()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn a_unary_call_with_early_metadata_ends_by_timeout_and_by_deadline() {
    let address = early_metadata().await;
    let api = Timeout::new("health", 100 * MS);
    let timed = ServiceBuilder::new()
        .layer(api.layer().grpc())
        .map_err(grpc::status)
        .service(channel(address));
    let mut client = HealthClient::new(timed);
    let status = timeout(LONG, client.check(asking(""))).await.unwrap();
    assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(api.snapshot().timed_out_total, 1);

    let all = DeadlineLayer::within("all", 100 * MS);
    let within = ServiceBuilder::new()
        .layer(all.clone().grpc())
        .map_err(grpc::status)
        .service(channel(address));
    let mut client = HealthClient::new(within);
    let status = timeout(LONG, client.check(asking(""))).await.unwrap();
    assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(all.snapshot().exceeded_total, 1);
}

#[tokio::test]
async fn a_server_stream_that_stalls_ends_with_its_status_and_others_go_on() {
    let tally = Tally::default();
    let stack = (
        DeadlineHeaderLayer::at_most("server", 300 * MS),
        GuardLayer::new(tally.clone()).grpc(),
    );
    let address = serve(RespondLayer::new(Grpc, stack)).await;
    let mut client = HealthClient::new(channel(address));
    let answer = timeout(LONG, client.watch(asking("hang"))).await.unwrap();
    let mut stream = answer.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let status = timeout(LONG, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let ends = tally.ended(1).await;
    assert!(matches!(ends[..], [End::TimedOut]), "{ends:?}");
    // The connection is as good as before.
    let answer = timeout(LONG, client.check(asking(""))).await.unwrap();
    assert!(answer.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rejection_before_the_head_is_one_as_before() {
    let layer = Timeout::new("api", 100 * MS).layer().grpc();
    let hang =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let edge = RespondLayer::new(Grpc, layer).layer(hang);
    let response = edge.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    let rejected: buttress::Rejected = *response.extensions().get().unwrap();
    assert_eq!(
        rejected.as_rejected().map(buttress::Rejected::kind),
        Some(Kind::TimedOut)
    );
    assert!(response.into_body().collect().now_or_never().is_some());
    let _ = CodesAsFailures;
}
