//! A tonic server behind our layers.

use crate::{
    grpc::health::{asking, channel, serve},
    tally::{FAILURE, IGNORED, REFUSED, SUCCESS, Tally, eventually, overloaded, within},
};
use buttress::{GuardLayer, Kind, grpc::Grpc, guard::End, http::RespondLayer};
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_rejection_arrives_as_its_status_with_the_pushback() {
    for (kind, code) in [
        (Kind::CircuitOpen, Code::Unavailable),
        (Kind::RateLimited, Code::ResourceExhausted),
        (Kind::TimedOut, Code::DeadlineExceeded),
    ] {
        let tally = Tally::default();
        tally.refuse(kind);
        let edge = RespondLayer::new(Grpc, GuardLayer::new(tally).grpc());
        let mut client = HealthClient::new(channel(serve(edge).await));
        let status = client.check(asking("")).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), format!("tally: {kind}, retry after 1.5s"));
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
        assert_eq!(pushback, "1500");
        let status = client.watch(asking("")).await.unwrap_err();
        assert_eq!(status.code(), code);
    }
}

#[tokio::test]
async fn sixty_connections_share_one_limit() {
    let tally = Tally::limited(5);
    let edge = RespondLayer::new(Grpc, GuardLayer::new(tally.clone()).grpc());
    let address = serve(edge).await;
    let calls = (0..60).map(|_| async move {
        let mut client = HealthClient::new(channel(address));
        client
            .check(asking(""))
            .await
            .map_err(|status| status.code())
    });
    let answers = futures::future::join_all(calls).await;
    let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
    let limited = |answer: &&Result<_, Code>| matches!(answer, Err(Code::ResourceExhausted));
    let limited = answers.iter().filter(limited).count();
    assert_eq!((admitted, limited), (5, 55));
    assert_eq!(tally.ended(5).await, [SUCCESS; 5]);
}

#[tokio::test]
async fn a_call_ends_with_what_its_trailers_say() {
    let tally = Tally::default();
    let edge = RespondLayer::new(Grpc, GuardLayer::new(tally.clone()).grpc());
    let mut client = HealthClient::new(channel(serve(edge).await));
    let mut expected = Vec::new();
    for (asked, end) in [
        ("", SUCCESS),
        ("internal", FAILURE),
        ("exhausted", overloaded(Some(70))),
        ("missing", IGNORED),
    ] {
        let _ = within(client.check(asking(asked))).await;
        expected.push(end);
        assert_eq!(tally.ended(expected.len()).await, expected);
        // The same at the end of a stream that began well.
        let mut answers = client.watch(asking(asked)).await.unwrap().into_inner();
        while let Ok(Some(_)) = within(answers.message()).await {}
        expected.push(end);
        assert_eq!(tally.ended(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn what_a_method_returns_of_its_own_policies_is_what_they_said() {
    let tally = Tally::default();
    let edge = RespondLayer::new(Grpc, GuardLayer::new(tally.clone()).grpc());
    let mut client = HealthClient::new(channel(serve(edge).await));
    for (asked, end) in [
        // One user's quota says nothing of the server.
        ("limited", REFUSED),
        ("full", overloaded(None)),
        ("late", End::TimedOut),
    ] {
        let status = client.check(asking(asked)).await.unwrap_err();
        assert!(status.metadata().contains_key("buttress-rejected"));
        assert_eq!(tally.ended(1).await, [end], "{asked}");
        tally.clear();
    }
}

#[tokio::test]
async fn a_stream_holds_its_permit_and_one_that_is_no_longer_watched_says_nothing() {
    let tally = Tally::default();
    let edge = RespondLayer::new(Grpc, GuardLayer::new(tally.clone()).grpc());
    let mut client = HealthClient::new(channel(serve(edge).await));
    let mut answers = client.watch(asking("hang")).await.unwrap().into_inner();
    assert!(within(answers.message()).await.unwrap().is_some());
    assert_eq!((tally.in_flight(), tally.ends().len()), (1, 0));
    drop(answers);
    assert_eq!(tally.ended(1).await, [IGNORED]);
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_cancelled() {
    let tally = Tally::default();
    let edge = RespondLayer::new(Grpc, GuardLayer::new(tally.clone()).grpc());
    let mut client = HealthClient::new(channel(serve(edge).await));
    let call = tokio::spawn(async move { client.check(asking("hang")).await });
    eventually(|| tally.in_flight() == 1).await;
    call.abort();
    let _ = tokio::time::timeout(Duration::from_secs(5), call).await;
    assert_eq!(tally.ended(1).await, [End::Cancelled]);
    assert_eq!(tally.admitted(), 1);
}
