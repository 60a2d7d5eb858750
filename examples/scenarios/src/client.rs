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
    /// How old it says that it is, in seconds.
    pub(crate) age: Option<u64>,
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
            age: field("age").and_then(|age| age.parse().ok()),
            served_by: field("x-served-by").map(Arc::from),
            body: Bytes::new(),
        };
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { body, ..answer })
    }
}
