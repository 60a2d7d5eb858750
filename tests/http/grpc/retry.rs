//! A tonic client that tries again.

use crate::{
    grpc::health::{asking, channel, serve},
    tally::{FAILURE, SUCCESS, Tally, overloaded},
};
use buttress::{
    AsRejected, GuardLayer, Kind, Time, grpc,
    retry::{Backoff, Retry},
};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

fn retry() -> Retry {
    let backoff = Backoff::exponential(Duration::from_millis(1));
    Retry::builder("health").backoff(backoff).build().unwrap()
}

macro_rules! retrying {
    ($retry:expr, $tally:expr, $channel:expr) => {
        HealthClient::new(
            ServiceBuilder::new()
                .layer($retry.layer().grpc())
                .layer(GuardLayer::new($tally.clone()).grpc())
                .map_err(grpc::status)
                .service($channel),
        )
    };
}

#[tokio::test]
async fn failures_are_tried_again_and_the_callers_mistakes_are_not() {
    let tally = Tally::default();
    let address = serve(tower::layer::util::Identity::new()).await;
    let mut client = retrying!(retry(), tally, channel(address));
    let status = client.check(asking("internal")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(tally.ended(3).await, [FAILURE; 3]);
    assert!(client.check(asking("missing")).await.is_err());
    assert!(client.check(asking("")).await.is_ok());
    assert_eq!(tally.ended(5).await.len(), 5);
    assert_eq!(tally.ends().last(), Some(&SUCCESS));
}

#[tokio::test]
async fn pushback_is_kept_to() {
    let tally = Tally::default();
    let address = serve(tower::layer::util::Identity::new()).await;
    let mut client = retrying!(retry(), tally, channel(address));
    let began = Time::now();
    let status = client.check(asking("exhausted")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(tally.ended(3).await, [overloaded(Some(70)); 3]);
    // Two waits of 70 ms, where the backoff alone would be over after 3 ms.
    assert!(Time::now().since(began) >= Duration::from_millis(140));
}

#[tokio::test]
async fn a_rejection_by_a_layer_below_is_not_tried_again() {
    let tally = Tally::default();
    tally.refuse(Kind::CircuitOpen);
    let address = serve(tower::layer::util::Identity::new()).await;
    let retry = retry();
    let mut client = retrying!(retry, tally, channel(address));
    let status = client.check(asking("")).await.unwrap_err();
    assert!(status.as_rejected().is_some());
    assert_eq!((retry.snapshot().retries_total, tally.admitted()), (0, 0));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_again() {
    let nobody = TcpListener::bind("127.0.0.1:0").await;
    let nobody = nobody.unwrap().local_addr().unwrap();
    let tally = Tally::default();
    let status = retrying!(retry(), tally, channel(nobody))
        .check(asking(""))
        .await;
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    assert_eq!(tally.ends(), [FAILURE; 3]);
}
