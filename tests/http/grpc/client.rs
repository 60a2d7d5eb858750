//! A tonic client behind our layers.

use crate::{
    grpc::health::{asking, channel, serve},
    tally::{FAILURE, IGNORED, REFUSED, SUCCESS, Tally, overloaded},
};
use buttress::{
    AsRejected, Classify, Error, GuardLayer, Kind, Outcome,
    grpc::{self, CodesAsFailures, Grpc, OnTrailers},
    guard::End,
    http::RespondLayer,
};
use futures::FutureExt;
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

/// The client's stack, as the documentation has it.
macro_rules! guarded {
    ($tally:expr, $channel:expr) => {
        HealthClient::new(
            ServiceBuilder::new()
                .layer(GuardLayer::new($tally.clone()).grpc())
                .map_err(grpc::status)
                .service($channel),
        )
    };
}

#[tokio::test]
async fn a_client_learns_from_trailers_and_its_own_rejection_keeps_its_code() {
    let tally = Tally::default();
    let address = serve(tower::layer::util::Identity::new()).await;
    let mut client = guarded!(tally, channel(address));
    for asked in ["", "internal", "exhausted", "missing"] {
        let answer = client.check(asking(asked)).await;
        assert_eq!(answer.is_ok(), asked.is_empty());
    }
    let mut expected = vec![SUCCESS, FAILURE, overloaded(Some(70)), IGNORED];
    assert_eq!(tally.ended(4).await, expected);

    let mut answers = client.watch(asking("internal")).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert_eq!(tally.in_flight(), 1);
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Internal);
    expected.push(FAILURE);
    assert_eq!(tally.ended(5).await, expected);

    tally.refuse(Kind::CircuitOpen);
    let status = client.check(asking("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.as_rejected().map(|r| r.kind()),
        Some(Kind::CircuitOpen)
    );
    assert_eq!(
        status.metadata().get("grpc-retry-pushback-ms").unwrap(),
        "1500"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_and_still_unavailable() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let tally = Tally::default();
    let status = guarded!(tally, channel(nobody))
        .check(asking(""))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.as_rejected()),
        (Code::Unavailable, None)
    );
    assert_eq!(tally.ends(), [FAILURE]);
}

#[tokio::test]
async fn a_rejection_by_the_server_means_the_same_to_the_client() {
    let (near, far) = (Tally::default(), Tally::default());
    let edge = RespondLayer::new(Grpc, GuardLayer::new(far.clone()).grpc());
    let mut client = guarded!(near, channel(serve(edge).await));
    for (kind, code) in [
        (Kind::CircuitOpen, Code::Unavailable),
        (Kind::Throttled, Code::ResourceExhausted),
    ] {
        far.refuse(kind);
        let status = client.check(asking("")).await.unwrap_err();
        assert_eq!((status.code(), status.as_rejected()), (code, None));
        assert_eq!(near.ended(1).await, [REFUSED]);
        near.clear();
    }
    far.refuse(Kind::Overloaded);
    let status = client.check(asking("")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(near.ended(1).await, [overloaded(Some(1500))]);
}

#[tokio::test]
async fn the_responder_serves_a_client_too() {
    let tally = Tally::default();
    tally.refuse(Kind::Throttled);
    let address = serve(tower::layer::util::Identity::new()).await;
    let service = ServiceBuilder::new()
        .layer(RespondLayer::new(Grpc, GuardLayer::new(tally).grpc()))
        .service(channel(address));
    let status = HealthClient::new(service)
        .check(asking(""))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.metadata().get("grpc-retry-pushback-ms").unwrap(),
        "1500"
    );
}

#[tokio::test]
async fn a_call_dropped_while_the_server_hangs_is_cancelled() {
    let tally = Tally::default();
    let address = serve(tower::layer::util::Identity::new()).await;
    let mut client = guarded!(tally, channel(address));
    assert!(client.check(asking("hang")).now_or_never().is_none());
    assert_eq!(tally.ends(), [End::Cancelled]);
}

#[tokio::test]
async fn a_closure_over_the_status_is_a_classifier() {
    let tally = Tally::default();
    let address = serve(tower::layer::util::Identity::new()).await;
    let classifier = |result: Result<&(), &Status>| match result {
        Err(status) if status.code() == Code::NotFound => Outcome::Success,
        result => CodesAsFailures.classify(result),
    };
    let service = ServiceBuilder::new()
        .layer(GuardLayer::new(tally.clone()).settle(OnTrailers(classifier)))
        .map_err(Error::<tonic::transport::Error>::Service)
        .service::<Channel>(channel(address));
    let mut client = HealthClient::new(service);
    assert!(client.check(asking("missing")).await.is_err());
    assert!(client.check(asking("internal")).await.is_err());
    assert_eq!(tally.ended(2).await, [SUCCESS, FAILURE]);
}

#[tokio::test]
async fn the_results_of_a_generated_client_are_classified_too() {
    let address = serve(tower::layer::util::Identity::new()).await;
    let mut client = HealthClient::new(channel(address));
    let mut outcomes = Vec::new();
    for asked in ["", "internal", "missing"] {
        let answer = client.check(asking(asked)).await;
        outcomes.push(CodesAsFailures.classify(answer.as_ref()));
    }
    assert_eq!(
        outcomes,
        [Outcome::Success, Outcome::Failure, Outcome::Ignored]
    );
}
