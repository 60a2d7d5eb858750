//! The gateway as a process of its own, and a client for it.

use crate::example::executable;
use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
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
pub(crate) const VARIABLES: [&str; 19] = [
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
    "HTTP_PROXY",
    "http_proxy",
];

/// A command for it, with these settings over the short ones.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(executable("gateway"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(SETTINGS.iter().copied());
    command.envs(settings.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running gateway; it is killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    lines: Receiver<String>,
    pub(crate) url: String,
    /// The flaky backend's, if it started one.
    pub(crate) backend: Option<String>,
    pub(crate) client: Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

impl Gateway {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut child = command(settings).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        // Read on for as long as it writes, or it would block.
        thread::spawn(move || {
            for read in out.lines().map_while(Result::ok) {
                let _ = line.send(read);
            }
        });
        let mut gateway = Self {
            child,
            lines,
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

    /// The next line that says this.
    pub(crate) fn line(&mut self, says: &str) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(says) => return line,
                Ok(_) => {}
                Err(error) => panic!("{error} before {says:?}: {}", self.errors()),
            }
        }
    }

    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            let _ = err.read_to_string(&mut text);
        }
        text
    }

    /// Sends a signal, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the gateway ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
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

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Sends a request and reads the answer.
pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}
