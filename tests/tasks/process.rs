//! The service as processes of its own, and a client for it.

use crate::{
    common::{Postgres, Redis},
    example::executable,
};
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

/// Every variable, so that those of whoever runs the tests do not reach the service.
pub(crate) const VARIABLES: [&str; 14] = [
    "LISTEN_ADDR",
    "PORT_BASE",
    "NGINX_ADDR",
    "DATABASE_URL",
    "REDIS_URL",
    "POSTGRES_CONNECTIONS",
    "POSTGRES_TIMEOUT_SECONDS",
    "REDIS_TIMEOUT_SECONDS",
    "CACHE_NAMESPACE",
    "CACHE_TTL_SECONDS",
    "STALE_SECONDS",
    "LOG_REQUESTS",
    "HTTP_PROXY",
    "http_proxy",
];

/// A command for it: free ports, and these settings.
pub(crate) fn command(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(executable("tasks"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.args(arguments);
    for name in ["LISTEN_ADDR", "NGINX_ADDR"] {
        command.env(name, "127.0.0.1:0");
    }
    command.env("PORT_BASE", "0");
    command.envs(settings.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The servers that all tests share which harm none: they end with this process.
struct Shared {
    postgres: Postgres,
    redis: Redis,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| Shared {
    postgres: Postgres::start().unwrap(),
    redis: Redis::start_with(&["--databases", "200"]).unwrap(),
});

/// URLs of an empty database in each of the two.
pub(crate) async fn empty() -> (String, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // It is a moment that blocks, for the first who come.
    let shared = tokio::task::spawn_blocking(|| &*SHARED).await.unwrap();
    let n = COUNT.fetch_add(1, Relaxed);
    let url = shared.postgres.url();
    sql(&url, &format!("CREATE DATABASE test{n}")).await;
    let database = url.replace("dbname=postgres", &format!("dbname=test{n}"));
    (database, format!("{}/{n}", shared.redis.url()))
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs statements.
pub(crate) async fn sql(url: &str, statements: &str) {
    connect(url).await.batch_execute(statements).await.unwrap();
}

/// The number that a statement returns.
pub(crate) async fn number(url: &str, statement: &str) -> i64 {
    let row = connect(url).await.query_one(statement, &[]).await;
    row.unwrap().get(0)
}

/// A running service; it is killed when dropped.
pub(crate) struct Service {
    child: Child,
    lines: Mutex<Receiver<String>>,
    pub(crate) url: String,
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

    /// The body, of an answer with this status.
    pub(crate) fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        match self.body.is_empty() {
            true => Value::Null,
            false => self.json(),
        }
    }

    /// Checks that it is a problem document with this status, about these fields.
    pub(crate) fn problem(self, status: u16, fields: &[&str]) -> Value {
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

impl Service {
    /// One instance, over databases of its own.
    pub(crate) async fn start() -> Self {
        let (database, redis) = empty().await;
        Self::over(&database, &redis, &[])
    }

    pub(crate) fn over(database: &str, redis: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("DATABASE_URL", database), ("REDIS_URL", redis)];
        all.extend(settings);
        Self::run(&[], &all, "listening on")
    }

    /// Starts it, and waits for the line that says this before the URL.
    pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)], says: &str) -> Self {
        let mut child = command(arguments, settings).spawn().unwrap();
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
            lines: Mutex::new(lines),
            url: String::new(),
            client: client(),
        };
        let line = service.line(says);
        service.url = line.split_once("listening on ").unwrap().1.to_owned();
        service
    }

    /// The next line that says this.
    pub(crate) fn line(&mut self, says: &str) -> String {
        loop {
            let line = self.lines.lock().unwrap();
            match line.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(says) => return line,
                Ok(_) => {}
                Err(error) => {
                    drop(line);
                    panic!("{error} before {says:?}: {}", self.errors())
                }
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

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
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

    /// Sends a request, with a body unless it is null, and reads the answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.raw(method, path, text).await.unwrap()
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.url));
        let response = request.body(body).send().await?;
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await?,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, &body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &Value::Null).await
    }

    /// Adds a row, and returns its id.
    pub(crate) async fn add(&self, path: &str, body: Value) -> i64 {
        self.post(path, body).await.with(201)["id"]
            .as_i64()
            .unwrap()
    }

    /// What a list has in this field.
    pub(crate) async fn column(&self, path: &str, field: &str) -> Vec<Value> {
        let list = self.get(path).await.with(200);
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item[field].clone()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &id.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
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
