//! Clients behind our layers: hyper and reqwest.

use crate::{
    server::serve,
    tally::{FAILURE, SUCCESS, Tally, overloaded},
};
use axum::{Router, body::Body, http::StatusCode, routing::get};
use buttress::{Error, GuardLayer, Kind};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Service, ServiceBuilder, ServiceExt};

fn app() -> Router {
    Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route(
            "/full",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3")]) }),
        )
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
}

#[tokio::test]
async fn reqwest_is_guarded_and_its_rejection_is_told_from_its_errors() {
    let (address, tally) = (serve(app()).await, Tally::default());
    let client = reqwest::Client::new();
    let mut guarded = ServiceBuilder::new()
        .layer(GuardLayer::new(tally.clone()).http())
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service(client.clone());
    for path in ["ok", "full", "broken"] {
        let request = client
            .get(format!("http://{address}/{path}"))
            .build()
            .unwrap();
        let response = guarded.ready().await.unwrap().call(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, if path == "ok" { "fine" } else { "" });
    }
    assert_eq!(
        tally.ended(3).await,
        [SUCCESS, overloaded(Some(3000)), FAILURE]
    );

    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let request = client.get(format!("http://{nobody}/")).build().unwrap();
    let error = guarded
        .ready()
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Service(error) if error.is_connect()));
    assert_eq!(tally.ends().last(), Some(&FAILURE));

    tally.refuse(Kind::CircuitOpen);
    let request = client.get(format!("http://{address}/ok")).build().unwrap();
    let error = guarded
        .ready()
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Rejected(rejected) if rejected.kind() == Kind::CircuitOpen));
}

#[tokio::test]
async fn hyper_holds_the_permit_until_the_body_is_read_or_reset() {
    // A backend that promises ten bytes, sends four and closes, as one that crashes does.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour";
        socket.write_all(head).await.unwrap();
    });
    let tally = Tally::default();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let guarded = ServiceBuilder::new()
        .layer(GuardLayer::new(tally.clone()).http())
        .map_err(Error::Service)
        .service(client);
    let request = http::Request::get(format!("http://{address}/"));
    let response = guarded
        .oneshot(request.body(Empty::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(tally.in_flight(), 1);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((tally.in_flight(), tally.ends()), (0, vec![FAILURE]));
}

#[tokio::test]
async fn a_proxy_passes_the_held_body_on_and_its_permit_with_it() {
    let (address, tally) = (serve(app()).await, Tally::default());
    let client = ServiceBuilder::new()
        .layer(GuardLayer::new(tally.clone()).http())
        .map_err(Error::Service)
        .service(Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>());
    let proxy = move || {
        let client = client.clone();
        async move {
            let request = http::Request::get(format!("http://{address}/ok"));
            let request = request.body(Empty::new()).unwrap();
            client.oneshot(request).await.unwrap().map(Body::new)
        }
    };
    let proxy = serve(Router::new().route("/", get(proxy))).await;
    let body = reqwest::get(format!("http://{proxy}/"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(body, "fine");
    assert_eq!(tally.ended(1).await, [SUCCESS]);
}
