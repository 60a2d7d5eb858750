//! The service as processes of its own, and a client for it.

pub(crate) use crate::harness::{Answer, Process, client, eventually, signal};
use crate::servers::{Postgres, Redis};
use reqwest::{Client, Method};
use serde_json::Value;
use std::{
    ops::{Deref, DerefMut},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// Every variable, so that those of whoever runs the tests do not reach the service.
const VARIABLES: [&str; 12] = [
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
];

/// A command for it: free ports, and these settings.
pub(crate) fn command(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Process::command(env!("CARGO_BIN_EXE_tasks"), &VARIABLES);
    command.args(arguments);
    for name in ["LISTEN_ADDR", "NGINX_ADDR"] {
        command.env(name, "127.0.0.1:0");
    }
    command.env("PORT_BASE", "0");
    command.envs(settings.iter().copied());
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

/// A running service.
pub(crate) struct Service {
    process: Process,
    pub(crate) url: String,
    pub(crate) client: Client,
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
        let mut service = Self {
            process: Process::start(command(arguments, settings)),
            url: String::new(),
            client: client(),
        };
        let line = service.line(says);
        service.url = line.split_once("listening on ").unwrap().1.to_owned();
        service
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
        Answer::to(request.body(body)).await
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

impl Deref for Service {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
