//! The tonic client's and the tonic server's stack of the README, as they stand there, and what
//! callers do to them that is not the service's failure.

use crate::{
    grpc_uploads::{BROKEN, Broken, send_broken_and_a_whole_one},
    rpc::{
        self, Client, Orders, Uploads, channel, drained, get, get_within, refusal, serve, watch,
    },
    within,
};
use buttress::grpc::{self, Grpc};
use buttress::http::{DeadlineHeaderLayer, RespondLayer};
use buttress::{CircuitBreaker, LoadShed, RateLimiter, Retry, Timeout, circuit_breaker::State};
use futures::future::join_all;
use std::{
    convert::Infallible,
    error,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::{Service, ServiceBuilder, ServiceExt, layer::util::Identity};

const MS: Duration = Duration::from_millis(1);

/// The client's.
fn orders(to: SocketAddr) -> (CircuitBreaker, Retry, Client) {
    // As in the README:
    let (breaker, retry) = (CircuitBreaker::new("health"), Retry::new("health"));
    let channel = ServiceBuilder::new()
        .layer(DeadlineHeaderLayer::at_most(
            "health",
            Duration::from_secs(3),
        )) // or `set_timeout`
        .layer(breaker.layer().grpc())
        .layer(retry.layer().grpc())
        .layer(
            Timeout::new("health", Duration::from_secs(1))
                .layer()
                .grpc(),
        )
        .map_err(grpc::status) // from here up, every error is a `tonic::Status`
        // So far.
        .service(channel(to));
    (breaker, retry, rpc::client(channel))
}

/// The server's, around orders, and how its load shed is doing.
async fn server(uploads: &Uploads) -> Result<(LoadShed, SocketAddr), Box<dyn error::Error>> {
    // As in the README:
    let limiter = RateLimiter::new("rpc", 1_000, Duration::from_secs(1))?;
    let requests = LoadShed::new("rpc"); // finds out how much can be done at once
    let stack = (
        DeadlineHeaderLayer::at_most("rpc", Duration::from_secs(5)), // less if `grpc-timeout` is
        limiter.layer(),
        requests.queued().layer().grpc(),
    );
    // So far.
    let edge = RespondLayer::new(Grpc, stack);
    Ok((requests, serve(edge, Orders(uploads.clone())).await))
}

#[test]
fn the_stacks_are_those_of_the_readme() {
    crate::readme::shows_the_parts_of(include_str!("grpc_stacks.rs"), 2);
}

/// A server without policies, and a client's stack before it.
async fn client() -> (CircuitBreaker, Retry, Client) {
    orders(serve(Identity::new(), Orders(Uploads::new())).await)
}

/// Asks for what is there, and looks at what the breaker has learnt.
async fn is_well(breaker: &CircuitBreaker, client: &Client) {
    assert_eq!(get(client, "0").await.unwrap(), "seven");
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.failures_total), (State::Closed, 0));
}

#[tokio::test]
async fn callers_who_leave_the_clients_stack_do_not_close_it_for_others() {
    let (breaker, _, client) = client().await;
    for _ in 0..5 {
        let call = get(&client, "5000");
        let left = tokio::time::timeout(60 * MS, call).await;
        assert!(left.is_err(), "it takes longer");
    }
    is_well(&breaker, &client).await;
    for _ in 0..5 {
        let mut answers = watch(&client, "hang").await.unwrap();
        assert_eq!(within(answers.message()).await.unwrap().unwrap(), "first");
    }
    is_well(&breaker, &client).await;
}

#[tokio::test]
async fn callers_with_short_deadlines_do_not_close_the_clients_stack_for_others() {
    let (breaker, retry, client) = client().await;
    for _ in 0..5 {
        let status = get_within(&client, "5000", Some(60 * MS)).await;
        assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    }
    is_well(&breaker, &client).await;
    // Not for each attempt anew.
    assert_eq!(retry.snapshot().retries_total, 0);
}

#[tokio::test]
async fn what_is_not_there_or_not_valid_does_not_close_the_clients_stack_for_others() {
    let (breaker, _, client) = client().await;
    for _ in 0..5 {
        let missing = get(&client, "missing").await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        let invalid = get(&client, "invalid").await.unwrap_err();
        assert_eq!(invalid.code(), Code::InvalidArgument);
    }
    is_well(&breaker, &client).await;
}

#[tokio::test]
async fn one_users_refusals_are_returned_at_once_and_do_not_close_the_clients_stack() {
    let (breaker, _, client) = client().await;
    let start = Instant::now();
    for asked in ["exhausted", "pushback", "retry-info"] {
        for _ in 0..5 {
            let status = get(&client, asked).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted);
        }
        is_well(&breaker, &client).await;
    }
    // Nobody has waited for the thirty seconds.
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_service_that_hangs_closes_the_clients_stack_by_its_own_limits_only() {
    let (breaker, _, client) = client().await;
    let client = &client;
    let hang = |within| join_all((0..5).map(move |_| get_within(client, "hang", within)));
    for answer in hang(Some(60 * MS)).await {
        answer.unwrap_err();
    }
    assert_eq!(breaker.snapshot().state, State::Closed);
    for answer in hang(None).await {
        assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    }
    // Not all of them count on a machine that is busy (see `opens`).
    for _ in 0..10 {
        if breaker.snapshot().state == State::Open {
            break;
        }
        hang(None).await;
    }
    assert_eq!(breaker.snapshot().state, State::Open);
    let refused = get(client, "0").await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unavailable, "circuit-open"));
}

/// Sends uploads on to a service.
#[derive(Clone)]
struct Proxy(Client, Uploads);

impl NamedService for Proxy {
    const NAME: &'static str = Orders::NAME;
}

impl Service<http::Request<Body>> for Proxy {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self(client, uploads) = self.clone();
        Box::pin(async move {
            let _upload = uploads.begin();
            let answer = client.oneshot(request).await;
            Ok(answer.unwrap_or_else(|error| Status::from_error(error).into_http()))
        })
    }
}

#[tokio::test]
async fn uploads_that_break_off_do_not_close_a_proxys_client_stack() {
    let (breaker, _, upstream) = client().await;
    let uploads = Uploads::new();
    let proxy = Proxy(upstream.clone(), uploads.clone());
    let to = serve(RespondLayer::new(Grpc, Identity::new()), proxy).await;
    send_broken_and_a_whole_one(to, &uploads, &BROKEN).await;
    is_well(&breaker, &upstream).await;
}

#[tokio::test]
async fn the_servers_stack_outlives_what_callers_do_to_it() {
    let uploads = Uploads::new();
    let (requests, to) = server(&uploads).await.unwrap();
    let limit = requests.snapshot().limit;
    for _ in 0..5 {
        let client = rpc::client(channel(to));
        // A caller who leaves.
        let call = get(&client, "5000");
        assert!(tokio::time::timeout(60 * MS, call).await.is_err());
        // An id that is not there.
        let missing = get(&client, "missing").await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        // A deadline that is too short.
        get_within(&client, "5000", Some(60 * MS))
            .await
            .unwrap_err();
        // A stream that is read no longer, and with the client its connection goes.
        let mut answers = watch(&client, "hang").await.unwrap();
        assert_eq!(within(answers.message()).await.unwrap().unwrap(), "first");
    }
    let broken = [&BROKEN[..], &[Broken::Unreadable]].concat();
    send_broken_and_a_whole_one(to, &uploads, &broken).await;
    // All at once: what was held by those who left is free again.
    let client = rpc::client(channel(to));
    for answer in join_all((0..20).map(|_| get(&client, "1"))).await {
        assert_eq!(answer.unwrap(), "seven");
    }
    drained(&requests).await;
    assert!(requests.snapshot().limit >= limit);
}
