//! Asking, and what was answered.

use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::time::{Duration, Instant};

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Answer {
    /// Sends a request and reads the answer.
    pub(crate) async fn to(request: RequestBuilder) -> reqwest::Result<Self> {
        let begun = Instant::now();
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await?;
        Ok(Self {
            status,
            headers,
            body,
            took: begun.elapsed(),
        })
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// The answer to a request that gets one.
pub(crate) async fn read(request: RequestBuilder) -> Answer {
    Answer::to(request).await.unwrap()
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}
