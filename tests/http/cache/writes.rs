//! What a write invalidates.

use super::support::*;
use axum::{body::Body, extract::Request, response::Response};
use buttress::{
    cache::{Cache, MemoryStore},
    http::StoredResponse,
};
use futures::poll;
use reqwest::Method;
use std::{convert::Infallible, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn a_write_invalidates_all_queries_of_its_path_before_it_is_answered() {
    let served = Served::plain().await;
    let paths = ["/tasks", "/tasks?page=2", "/tasks/7", "/broken-write"];
    for path in paths {
        served.get(path).await;
    }
    let (.., said, _) = served.send(Method::POST, "/tasks", &[]).await;
    assert_eq!(said, "pages; fwd=method");
    served.send(Method::PUT, "/broken-write", &[]).await;
    let mut hits = Vec::new();
    for path in paths {
        hits.push(served.get(path).await.2.contains("hit"));
    }
    assert_eq!(hits, [false, false, true, true]);
}

#[tokio::test]
async fn a_tag_says_what_a_write_invalidates() {
    let tag = |uri: &http::Uri| uri.path().split('/').nth(1).unwrap_or_default().to_owned();
    let served = Served::new(move |cache| cache.http_layer().tag(tag)).await;
    for path in ["/tasks?page=2", "/tasks/7", "/users"] {
        served.get(path).await;
    }
    served.send(Method::DELETE, "/tasks/7", &[]).await;
    assert!(!served.get("/tasks?page=2").await.2.contains("hit"));
    assert!(!served.get("/tasks/7").await.2.contains("hit"));
    assert!(served.get("/users").await.2.contains("hit"));
}

#[tokio::test]
async fn a_write_that_may_have_been_done_invalidates() {
    let store = MemoryStore::weighed(1 << 20, StoredResponse::weight).unwrap();
    let cache = Cache::builder("pages").freshness(TERMS).store(store);
    let cache = cache.build().unwrap();
    let timeout = buttress::Timeout::new("tasks", Duration::from_millis(1));
    let service = service_fn(async |req: Request| match req.method() {
        &Method::GET => Ok::<_, buttress::Error<Infallible>>(Response::new(Body::from("x"))),
        // It is done, and answers never.
        _ => std::future::pending().await,
    });
    let timed = cache.http_layer().layer(timeout.layer().layer(service));
    let cached = cache.http_layer().layer(service);
    let request = |method| {
        let req = Request::builder().method(method).uri("/tasks");
        req.body(Body::empty()).unwrap()
    };
    let hit = async || {
        let answer = cached.clone().oneshot(request(Method::GET)).await.unwrap();
        let said = answer.headers().get("cache-status").unwrap();
        said.to_str().unwrap().contains("hit")
    };
    assert!(!hit().await && hit().await);
    // Its caller gives up.
    let mut write = Box::pin(cached.clone().oneshot(request(Method::POST)));
    assert!(poll!(&mut write).is_pending());
    assert!(hit().await, "nothing has happened so far");
    drop(write);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!hit().await && hit().await);
    // It takes too long.
    assert!(timed.oneshot(request(Method::POST)).await.is_err());
    assert!(!hit().await);
}
