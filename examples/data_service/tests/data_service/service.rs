//! The service as a process of its own, its servers, and a client for it.

pub(crate) use crate::harness::{Answer, Process, client, eventually, read};
use crate::servers::{Postgres, Redis};
use reqwest::Client;
use std::{
    ops::{Deref, DerefMut},
    process::Command,
    time::{Duration, Instant},
};
use tokio_postgres::NoTls;

/// Every variable, so that those of whoever runs the tests do not reach the service.
const VARIABLES: [&str; 9] = [
    "DATABASE_URL",
    "REDIS_URL",
    "LISTEN_ADDR",
    "MAX_CONCURRENT",
    "CACHE_TTL_SECONDS",
    "STALE_SECONDS",
    "POSTGRES_TIMEOUT_SECONDS",
    "REDIS_TIMEOUT_SECONDS",
    "RESILIENCE",
];

/// A command for it, with these settings.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Process::command(env!("CARGO_BIN_EXE_data_service"), &VARIABLES);
    command.env("LISTEN_ADDR", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    command
}

/// A running service.
pub(crate) struct Service {
    process: Process,
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl Service {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut service = Self {
            process: Process::start(command(settings)),
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

/// How long it takes until it is so.
pub(crate) async fn until(what: &str, so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    eventually(what, so).await;
    begun.elapsed()
}
