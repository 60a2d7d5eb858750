//! For how long a response is good for what.

use super::support::*;
use crate::tally::within;
use axum::{extract::Request, response::IntoResponse};
use buttress::cache::Cache;
use http::{StatusCode, header};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn that_something_is_not_there_is_kept_for_a_shorter_time() {
    let served = Served::new(|cache| cache.http_layer().negative(Duration::from_millis(200))).await;
    assert_eq!(
        (served.get("/none").await.0, served.get("/none").await.0),
        (404, 404)
    );
    assert_eq!(served.origin.calls(), 1);
    within(async {
        while served.origin.calls() == 1 {
            assert_eq!(served.get("/none").await.0, 404);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stale_response_is_better_than_a_server_error() {
    let served = Served::plain().await;
    assert_eq!(served.get("/short").await.2, "pages; fwd=uri-miss; stored");
    for status in [500, 502, 503, 504, 429] {
        served.origin.fail_with(status);
        let (status, text, said, _) = served.get("/short").await;
        assert_eq!((status, &*text), (200, "/short 1"));
        assert!(
            said.starts_with("pages; fwd=stale; ttl=") && said.ends_with("; detail=sie"),
            "{said}"
        );
    }
    // With nothing stale there is the error, and it is not kept.
    served.origin.fail_with(500);
    assert_eq!(served.get("/other").await.0, 500);
    served.origin.fail_with(0);
    assert_eq!(served.get("/other").await.0, 200);
}

#[tokio::test]
async fn a_stale_response_is_better_than_a_server_error_for_those_who_load_alone_too() {
    let cache = Cache::builder("pages").build().unwrap();
    let answers = [
        (200, "max-age=0, stale-if-error=60"),
        // So everybody loads alone for a while.
        (200, "private"),
        (500, "no-store"),
    ];
    let answers = Arc::new(std::sync::Mutex::new(answers.into_iter()));
    let service = service_fn(move |_: Request| {
        let (status, said) = answers.lock().unwrap().next().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let answer = (status, [(header::CACHE_CONTROL, said)]).into_response();
        async move { Ok::<_, buttress::Error<Infallible>>(answer) }
    });
    let cached = cache.http_layer().layer(service);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = cached.clone().oneshot(Request::default()).await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200]);
    assert_eq!(cache.snapshot().if_error_total, 1);
}
