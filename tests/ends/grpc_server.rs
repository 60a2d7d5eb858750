//! A tonic server with a breaker: what its callers do to it, and what they are told.

use crate::{
    rpc::{
        Client, Orders, Uploads, channel, client, drained, get, get_within, patient, refusal,
        serve, watch,
    },
    uploads::opens,
    within,
};
use buttress::{
    CircuitBreaker, LoadShed, RateLimiter,
    circuit_breaker::State,
    grpc::Grpc,
    http::{DeadlineHeaderLayer, RespondLayer},
};
use futures::{FutureExt, future::join_all};
use std::{net::SocketAddr, time::Duration};
use tonic::{Code, Status};

const MS: Duration = Duration::from_millis(1);
/// What a call is told that was not over by its deadline.
const LATE: (Code, &str) = (Code::DeadlineExceeded, "deadline-exceeded");

/// Returns a breaker and a load shed, and where they stand before orders, within a deadline.
async fn guarded(at_most: Duration) -> (CircuitBreaker, LoadShed, SocketAddr) {
    let (breaker, requests) = (CircuitBreaker::new("orders"), LoadShed::new("orders"));
    let stack = (
        DeadlineHeaderLayer::at_most("orders", at_most),
        breaker.layer().grpc(),
        requests.layer().grpc(),
    );
    let to = serve(RespondLayer::new(Grpc, stack), Orders(Uploads::new())).await;
    (breaker, requests, to)
}

fn connect(to: SocketAddr) -> Client {
    client(channel(to))
}

#[tokio::test]
async fn what_callers_do_teaches_a_servers_policies_nothing() {
    let (breaker, requests, to) = guarded(60_000 * MS).await;
    let limit = requests.snapshot().limit;
    for turn in [
        "leaves",
        "disconnects",
        "reads no more",
        "has no time",
        "errs",
    ] {
        for _ in 0..5 {
            let caller = connect(to);
            match turn {
                "leaves" => {
                    let call = get(&caller, "hang");
                    assert!(tokio::time::timeout(60 * MS, call).await.is_err());
                }
                "disconnects" => {
                    let mut calls = Box::pin(join_all([get(&caller, "hang"), get(&caller, "50")]));
                    let first = get(&caller, "0");
                    tokio::select! {
                        _ = &mut calls => panic!("one hangs"),
                        answer = first => assert_eq!(answer.unwrap(), "seven"),
                    }
                }
                "reads no more" => {
                    let mut answers = watch(&caller, "hang").await.unwrap();
                    assert_eq!(within(answers.message()).await.unwrap().unwrap(), "first");
                }
                "has no time" => {
                    let late = get_within(&patient(to), "hang", Some(60 * MS)).await;
                    assert_eq!(refusal(&late.unwrap_err()), LATE);
                    let late = get_within(&caller, "hang", Some(60 * MS)).await;
                    late.unwrap_err();
                }
                _ => {
                    for (asked, code) in [
                        ("missing", Code::NotFound),
                        ("invalid", Code::InvalidArgument),
                    ] {
                        assert_eq!(get(&caller, asked).await.unwrap_err().code(), code);
                    }
                }
            }
        }
        assert_eq!(get(&connect(to), "0").await.unwrap(), "seven");
        let circuit = breaker.snapshot();
        assert_eq!(
            (circuit.state, circuit.failures_total),
            (State::Closed, 0),
            "{turn}"
        );
    }
    drained(&requests).await;
    assert_eq!(requests.snapshot().limit, limit);
}

#[tokio::test]
async fn a_service_that_hangs_opens_a_servers_breaker_by_the_operators_limit() {
    let (breaker, _, to) = guarded(50 * MS).await;
    let caller = connect(to);
    opens(&breaker, async || {
        let status = get(&caller, "hang").await.unwrap_err();
        assert_eq!(refusal(&status), LATE);
    })
    .await;
    let status = get(&caller, "0").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "circuit-open"));
}

#[tokio::test]
async fn a_stream_that_is_cut_off_says_so_in_its_trailers() {
    let (_, _, to) = guarded(50 * MS).await;
    let read_all = async {
        let mut answers = watch(&connect(to), "hang").await?;
        while within(answers.message()).await?.is_some() {}
        Ok(())
    };
    let status: Status = Result::unwrap_err(read_all.await);
    assert_eq!(refusal(&status), LATE);
}

#[tokio::test]
async fn a_limit_and_a_full_server_are_told_apart() {
    let limiter = RateLimiter::new("orders", 2, Duration::from_secs(600)).unwrap();
    let requests = LoadShed::builder("orders").fixed(1).build().unwrap();
    let stack = (limiter.layer(), requests.layer().grpc());
    let to = serve(RespondLayer::new(Grpc, stack), Orders(Uploads::new())).await;
    let caller = connect(to);
    let mut held = watch(&caller, "hang").await.unwrap();
    assert_eq!(within(held.message()).await.unwrap().unwrap(), "first");
    assert!(held.message().now_or_never().is_none());
    for kind in ["overloaded", "rate-limited"] {
        let status = get(&caller, "0").await.unwrap_err();
        assert_eq!(refusal(&status), (Code::ResourceExhausted, kind));
    }
    let status = watch(&caller, "0").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "rate-limited"));
}
