//! The servers that a scenario needs, the way to break them, and the services before them.

use crate::{
    client::Client,
    process::Process,
    proxy::Proxy,
    servers::{Postgres, Redis},
};
use std::{
    error::Error,
    future::Future,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio::{task::block_in_place, time::sleep};
use tokio_postgres::NoTls;

pub(crate) type Failed = Box<dyn Error>;

pub(crate) struct Stage {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    /// The way to Postgres.
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    /// How long a phase lasts.
    pub(crate) phase: Duration,
    pub(crate) quick: bool,
    pub(crate) commands: Vec<String>,
}

/// A service, and where it listens.
pub(crate) struct Service {
    _process: Process,
    pub(crate) url: String,
}

impl Stage {
    pub(crate) async fn new(quick: bool) -> Result<Self, Failed> {
        let (postgres, redis) =
            block_in_place(|| Ok::<_, Failed>((Postgres::start_on_tcp()?, Redis::start()?)))?;
        let proxy = Proxy::start(postgres.port().ok_or("Postgres has no port")?).await?;
        Ok(Self {
            postgres,
            redis,
            proxy,
            client: Client::new(),
            phase: Duration::from_millis(if quick { 700 } else { 2500 }),
            quick,
            commands: Vec::new(),
        })
    }

    /// As a phase, but long enough for calls of a second to time out.
    pub(crate) fn outage(&self) -> Duration {
        self.phase.max(Duration::from_millis(1600))
    }

    /// Fewer, if it has to be quick.
    pub(crate) fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 4 } else { count }
    }

    /// The data service with these settings, straight before the servers.
    pub(crate) fn data_service(&mut self, settings: &[(&str, &str)]) -> Result<Service, Failed> {
        let database = self.postgres.url();
        self.data_service_at(&database, settings)
    }

    /// The same, with the proxy on its way to Postgres.
    pub(crate) fn data_service_behind_proxy(
        &mut self,
        settings: &[(&str, &str)],
    ) -> Result<Service, Failed> {
        let database = format!("postgres://postgres@{}/postgres", self.proxy.address);
        self.data_service_at(&database, settings)
    }

    fn data_service_at(
        &mut self,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Service, Failed> {
        let redis = self.redis.url();
        let mut all = vec![
            ("DATABASE_URL", database),
            ("REDIS_URL", redis.as_str()),
            ("LISTEN_ADDR", "127.0.0.1:0"),
        ];
        all.extend(settings);
        let mut process = Process::start("data_service", &[], &all)?;
        self.commands.push(process.command.clone());
        let url = process.says("data service listening on ")?;
        Ok(Service {
            _process: process,
            url,
        })
    }

    /// Asks Postgres itself, past every proxy.
    pub(crate) async fn sql(&self, text: &str) -> Result<tokio_postgres::Client, Failed> {
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.socket_url(), NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(text).await?;
        Ok(client)
    }

    /// How many keys are in Redis, if it answers.
    pub(crate) fn keys_in_redis(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.redis.port())).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"DBSIZE\r\nQUIT\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.lines().next()?.strip_prefix(':')?.parse().ok()
    }
}

/// How long it takes until it is so; ten seconds at most.
pub(crate) async fn until<F: Future<Output = bool>>(mut so: impl FnMut() -> F) -> Duration {
    let begun = Instant::now();
    while !so().await && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}
