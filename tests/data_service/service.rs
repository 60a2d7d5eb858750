//! The service as a process of its own, its servers, and a client for it.

use crate::{
    common::{Postgres, Redis},
    example::executable,
};
use reqwest::{Client, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tokio_postgres::NoTls;

/// Every variable, so that those of whoever runs the tests do not reach the service.
const VARIABLES: [&str; 11] = [
    "DATABASE_URL",
    "REDIS_URL",
    "LISTEN_ADDR",
    "MAX_CONCURRENT",
    "CACHE_TTL_SECONDS",
    "STALE_SECONDS",
    "POSTGRES_TIMEOUT_SECONDS",
    "REDIS_TIMEOUT_SECONDS",
    "RESILIENCE",
    "HTTP_PROXY",
    "http_proxy",
];

/// A command for it, with these settings.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(executable("data_service"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env("LISTEN_ADDR", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running service; it is killed when dropped.
pub(crate) struct Service {
    child: Child,
    lines: Receiver<String>,
    /// What it said before it listened.
    pub(crate) said: Vec<String>,
    pub(crate) url: String,
    pub(crate) client: Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The same, if it is an error with a reason in JSON.
    pub(crate) fn error(&self) -> (u16, String) {
        let json = self.json();
        let why = json["error"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        (self.status.as_u16(), why.to_owned())
    }

    pub(crate) fn cache(&self) -> &str {
        self.header("cache-status")
    }

    pub(crate) fn is_marked_stale(&self) -> bool {
        self.header("x-stale") == "true"
    }
}

impl Service {
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
        let mut service = Self {
            child,
            lines,
            said: Vec::new(),
            url: String::new(),
            client: client(),
        };
        let line = service.line("data service listening on ");
        service.url = line.rsplit(' ').next().unwrap().to_owned();
        service
    }

    /// In front of these servers.
    pub(crate) fn before(servers: &Servers, settings: &[(&str, &str)]) -> Self {
        let (database, redis) = (servers.postgres.url(), servers.redis.url());
        let mut all = vec![
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", redis.as_str()),
        ];
        all.extend(settings);
        Self::start(&all)
    }

    /// The next line that says this.
    pub(crate) fn line(&mut self, says: &str) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(says) => return line,
                Ok(line) => self.said.push(line),
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
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the service ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.client.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        let url = format!("{}/data", self.url);
        read(self.client.post(url).body(body.to_owned())).await
    }

    /// What `/health` says of the service, of Postgres and of Redis.
    pub(crate) async fn health(&self) -> (u16, [String; 3]) {
        let answer = self.get("/health").await;
        let json = answer.json();
        let word = |name: &str| json[name].as_str().unwrap().to_owned();
        let words = [word("status"), word("postgres"), word("redis")];
        (answer.status.as_u16(), words)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Servers that a test may do anything to.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let postgres = Postgres::start_on_tcp().unwrap();
        let redis = Redis::start().unwrap();
        Self { postgres, redis }
    }

    /// Asks Postgres itself.
    pub(crate) async fn sql(&self, text: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.postgres.socket_url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client.batch_execute(text).await.unwrap();
        client
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let client = self.sql("").await;
        let count = format!("SELECT count(*) FROM {table}");
        client.query_one(&count, &[]).await.unwrap().get(0)
    }
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Sends a request and reads the answer.
pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let begun = Instant::now();
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.text().await.unwrap();
    Answer {
        status,
        headers,
        body,
        took: begun.elapsed(),
    }
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// How long it takes until it is so.
pub(crate) async fn until(what: &str, so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    eventually(what, so).await;
    begun.elapsed()
}
