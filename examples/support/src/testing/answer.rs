//! Asking, and what was answered.

use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::time::{Duration, Instant};

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub took: Duration,
}

impl Answer {
    /// Sends a request and reads the answer.
    pub async fn to(request: RequestBuilder) -> reqwest::Result<Self> {
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

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The status and the reason, of an error that says it in JSON.
    pub fn error(&self) -> (u16, String) {
        let json = self.json();
        let why = json["error"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        (self.status.as_u16(), why.to_owned())
    }

    pub fn cache(&self) -> &str {
        self.header("cache-status")
    }

    pub fn is_marked_stale(&self) -> bool {
        self.header("x-stale") == "true"
    }

    /// The body, of an answer with this status.
    pub fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        match self.body.is_empty() {
            true => Value::Null,
            false => self.json(),
        }
    }

    /// Checks that it is a problem document with this status, about these fields.
    pub fn problem(self, status: u16, fields: &[&str]) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.with(status);
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let mut named: Vec<_> = errors
            .iter()
            .map(|e| e["field"].as_str().unwrap())
            .collect();
        named.sort_unstable();
        assert_eq!(named, fields, "{problem}");
        for error in &errors {
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
        problem
    }
}

/// The answer to a request that gets one.
pub async fn read(request: RequestBuilder) -> Answer {
    Answer::to(request).await.unwrap()
}

pub fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}
