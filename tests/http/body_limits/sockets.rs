//! Over real TCP: real time, with limits far below what would fail, and far above what is needed.

use super::{MS, cut, dripping, read};
use crate::tally::{Tally, eventually};
use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use buttress::{
    Error, GuardLayer, Kind, Timeout,
    http::{BodyLimit, DeadlineHeaderLayer, Http, MinRate, RespondLayer},
    timeout::DeadlineLayer,
};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::{ServiceBuilder, ServiceExt};

const LONG: Duration = Duration::from_secs(20);

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn a_servers_body_that_stalls_after_its_head_ends_at_the_deadline() {
    let tally = Tally::default();
    let stack = (
        DeadlineHeaderLayer::at_most("api", 200 * MS),
        GuardLayer::new(tally.clone()).http(),
    );
    let app = Router::new()
        .route("/", get(|| async { Body::new(dripping(2, 5, MS)) }))
        .layer(RespondLayer::new(Http, stack));
    let address = serve(app).await;
    let response = timeout(LONG, reqwest::get(format!("http://{address}/")));
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    // Chunked, and broken off: the client sees that this is not all.
    assert!(timeout(LONG, response.bytes()).await.unwrap().is_err());
    assert_eq!(tally.ended(1).await.len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_permit_back_at_the_deadline() {
    let tally = Tally::default();
    let stack = (
        DeadlineHeaderLayer::at_most("api", 200 * MS),
        GuardLayer::new(tally.clone()).http(),
    );
    // More than all buffers on the way hold, as fast as it is taken.
    let endless = || async { Body::new(dripping(usize::MAX, 65_536, Duration::ZERO)) };
    let app = Router::new()
        .route("/", get(endless))
        .layer(RespondLayer::new(Http, stack));
    let mut client = TcpStream::connect(serve(app).await).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    eventually(|| tally.admitted() == 1).await;
    assert_eq!(timeout(LONG, tally.ended(1)).await.unwrap().len(), 1);
    drop(client);
}

#[tokio::test]
async fn a_client_gives_up_on_a_body_that_stalls_or_drips() {
    let app = Router::new()
        .route("/stall", get(|| async { Body::new(dripping(1, 5, MS)) }))
        .route(
            "/drip",
            get(|| async { Body::new(dripping(usize::MAX, 1, 5 * MS)) }),
        );
    let address = serve(app).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let api = Timeout::new("api", LONG);
    // A drip of at most 200 bytes a second is far below this.
    let rate = MinRate::per_second(1_000_000).averaged_over(100 * MS);
    let tally = Tally::default();
    for (path, layer, limit) in [
        ("stall", api.layer().http().idle(100 * MS), BodyLimit::Idle),
        ("drip", api.layer().http().min_rate(rate), BodyLimit::Rate),
    ] {
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(GuardLayer::new(tally.clone()).http())
            .map_err(Error::Service)
            .service(client.clone());
        let request = http::Request::get(format!("http://{address}/{path}"));
        let response = service.oneshot(request.body(Empty::new()).unwrap());
        let body = timeout(LONG, response).await.unwrap().unwrap().into_body();
        let (_, result) = timeout(LONG, read(body)).await.unwrap();
        assert_eq!(cut(&*result.unwrap_err()), Some((limit, Kind::TimedOut)));
        assert_eq!(tally.in_flight(), 0);
    }
    let all = DeadlineLayer::within("all", 100 * MS);
    let service = ServiceBuilder::new()
        .layer(all.clone().http())
        .map_err(Error::Service)
        .service(client);
    let request = http::Request::get(format!("http://{address}/drip"));
    let response = service.oneshot(request.body(Empty::new()).unwrap());
    let body = timeout(LONG, response).await.unwrap().unwrap().into_body();
    let (_, result) = timeout(LONG, read(body)).await.unwrap();
    assert!(cut(&*result.unwrap_err()).is_some());
    assert_eq!(all.snapshot().exceeded_total, 1);
}

#[tokio::test]
async fn an_upload_that_is_too_slow_ends_and_a_quick_one_is_taken() {
    let uploads = Timeout::new("uploads", LONG);
    let tally = Tally::default();
    let stack = (
        GuardLayer::new(tally.clone()).http(),
        uploads
            .layer()
            .http()
            .min_upload_rate(MinRate::per_second(10_000).averaged_over(200 * MS))
            .map_body(Body::new),
    );
    let app = Router::new()
        .route(
            "/",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .layer(RespondLayer::new(Http, stack));
    let address = serve(app).await;

    let quick = reqwest::Client::new().post(format!("http://{address}/"));
    let quick = timeout(LONG, quick.body(vec![1; 100_000]).send());
    let text = quick.await.unwrap().unwrap().text().await.unwrap();
    assert_eq!(text, "100000");
    assert_eq!(uploads.snapshot().timed_out_total, 0);

    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nx")
        .await
        .unwrap();
    let mut answer = [0; 12];
    timeout(LONG, slow.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    assert_eq!(uploads.snapshot().timed_out_total, 1);
    assert_eq!(tally.ended(2).await.len(), 2);
}
