//! The gateway as a process of its own, and a client for it.

pub(crate) use crate::harness::{Answer, Process, client, eventually, read};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use std::{
    ops::{Deref, DerefMut},
    process::Command,
};

/// Short times, free ports, and a backend that is well. Attempts have time enough for a busy machine:
/// what times out says so itself.
const SETTINGS: &[(&str, &str)] = &[
    ("GATEWAY_ADDR", "127.0.0.1:0"),
    ("BACKEND_ADDR", "127.0.0.1:0"),
    ("FLAKY_FAILURE_RATE", "0"),
    ("FLAKY_SLOW_RATE", "0"),
    ("INITIAL_BACKOFF_SECONDS", "0.02"),
    ("BACKOFF_JITTER", "none"),
    ("REQUEST_TIMEOUT_SECONDS", "10"),
    ("RATE_LIMIT_REQUESTS_PER_WINDOW", "1000"),
    ("RECOVERY_TIMEOUT_SECONDS", "1"),
];

/// Every variable, so that those of whoever runs the tests do not reach the gateway.
pub(crate) const VARIABLES: [&str; 17] = [
    "GATEWAY_ADDR",
    "BACKEND_ADDR",
    "BACKEND_URL",
    "FLAKY_FAILURE_RATE",
    "FLAKY_SLOW_RATE",
    "FLAKY_DELAY_SECONDS",
    "MAX_RETRIES",
    "INITIAL_BACKOFF_SECONDS",
    "BACKOFF_MULTIPLIER",
    "BACKOFF_JITTER",
    "REQUEST_TIMEOUT_SECONDS",
    "RATE_LIMIT_ENABLED",
    "RATE_LIMIT_REQUESTS_PER_WINDOW",
    "RATE_LIMIT_WINDOW_SECONDS",
    "FAILURE_THRESHOLD",
    "RECOVERY_TIMEOUT_SECONDS",
    "TRUSTED_PROXIES",
];

/// A command for it, with these settings over the short ones.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Process::command(env!("CARGO_BIN_EXE_gateway"), &VARIABLES);
    command.envs(SETTINGS.iter().copied());
    command.envs(settings.iter().copied());
    command
}

/// What a problem document with this status says.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let kind = answer.header("content-type");
    assert_eq!(kind, "application/problem+json", "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{answer:?}");
    assert!(problem["type"].is_string() && problem["title"].is_string());
    problem["detail"].as_str().unwrap().to_owned()
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Process,
    pub(crate) url: String,
    /// The flaky backend's, if it started one.
    pub(crate) backend: Option<String>,
    pub(crate) client: Client,
}

impl Gateway {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut gateway = Self {
            process: Process::start(command(settings)),
            url: String::new(),
            backend: None,
            client: client(),
        };
        while gateway.url.is_empty() {
            let line = gateway.line("listening on");
            let (what, url) = line.split_once(" listening on ").unwrap();
            match what {
                "gateway" => gateway.url = url.to_owned(),
                _ => gateway.backend = Some(url.to_owned()),
            }
        }
        gateway
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    pub(crate) async fn data(&self) -> Answer {
        read(self.get("/api/v1/data")).await
    }

    /// The metrics in JSON.
    pub(crate) async fn metrics(&self) -> Value {
        read(self.get("/metrics")).await.json()
    }

    pub(crate) async fn state(&self) -> String {
        let metrics = self.metrics().await;
        metrics["circuit_breaker_state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Changes the flaky backend's behaviour.
    pub(crate) async fn behave(&self, change: &str) -> Answer {
        let url = format!("{}/behaviour", self.backend.as_deref().unwrap());
        read(self.client.put(url).body(change.to_owned())).await
    }
}

impl Deref for Gateway {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
