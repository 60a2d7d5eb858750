//! Event streams on the README's server, over TCP: they are open, and take nothing from the others.

use crate::{stacks::server, within};
use axum::{
    Router,
    extract::ConnectInfo,
    response::sse::{Event, Sse},
    routing::get,
};
use futures_util::{StreamExt, stream};
use std::{convert::Infallible, net::SocketAddr};
use tokio::net::TcpListener;

/// A service with a stream that says one thing and stays open, and a quick answer.
fn app() -> Router {
    let events = async |_: ConnectInfo<SocketAddr>| {
        let first = stream::iter([Ok::<_, Infallible>(Event::default().data("open"))]);
        Sse::new(first.chain(stream::pending()))
    };
    Router::new()
        .route("/events", get(events))
        .route("/quick", get(async || "quick"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_take_nothing_from_the_other_callers_of_the_servers_stack() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let app = server(app()).unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let mut streams = Vec::new();
        for _ in 0..20 {
            // Each of a client of its own.
            let client = reqwest::Client::new();
            let response = client
                .get(format!("http://{to}/events"))
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.bytes_stream();
            assert!(
                body.next()
                    .await
                    .unwrap()
                    .unwrap()
                    .starts_with(b"data: open")
            );
            streams.push(body);
        }
        // They are as many as the limit that it begins with. Within a second or so they do not
        // count any more.
        let client = reqwest::Client::new();
        let quick = async || {
            let asked = client.get(format!("http://{to}/quick")).send();
            asked.await.unwrap().status().as_u16()
        };
        let mut refused = 0;
        while quick().await == 503 {
            refused += 1;
            assert!(refused < 70, "shut out");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for _ in 0..8 {
            assert_eq!(quick().await, 200);
        }
        drop(streams);
    })
    .await;
}
