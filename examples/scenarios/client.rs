//! An HTTP client that keeps its connections, and reads what the answers say about the cache.

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::sync::Arc;

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    /// It says that it is stale.
    pub(crate) stale: bool,
    /// It says that it is stale because there was no better answer to be had.
    pub(crate) for_want_of_better: bool,
    /// The instance that has answered.
    pub(crate) served_by: Option<Arc<str>>,
    pub(crate) body: Bytes,
}

/// Clones share the connections.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(legacy::Client::builder(TokioExecutor::new()).build(connector))
    }

    /// The answer, if there is one.
    pub(crate) async fn get(&self, url: &str) -> Option<Answer> {
        self.send(Request::get(url).body(Full::default()).ok()?)
            .await
    }

    pub(crate) async fn post(&self, url: &str, json: String) -> Option<Answer> {
        let request = Request::post(url).header("content-type", "application/json");
        self.send(request.body(Full::from(json)).ok()?).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let (head, body) = self.0.request(request).await.ok()?.into_parts();
        let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let answer = Answer {
            status: head.status.as_u16(),
            retry_after: field("retry-after").is_some(),
            stale: field("x-stale") == Some("true"),
            for_want_of_better: field("cache-status").is_some_and(|s| s.contains("detail=sie")),
            served_by: field("x-served-by").map(Arc::from),
            body: Bytes::new(),
        };
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { body, ..answer })
    }
}
