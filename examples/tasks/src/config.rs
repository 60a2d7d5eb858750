//! What the service can be told through its environment.

use crate::env::{Invalid, address, number, parsed, seconds};
use std::{net::SocketAddr, time::Duration};

/// The settings; the README lists the variables with their defaults.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where one instance listens.
    pub(crate) listen: SocketAddr,
    /// The first of several instances' ports; 0: free ones.
    pub(crate) port_base: u16,
    pub(crate) nginx: SocketAddr,
    /// Of somebody's Postgres; else one is booted.
    pub(crate) database_url: Option<String>,
    /// Of somebody's Redis; else one is booted.
    pub(crate) redis_url: Option<String>,
    /// To Postgres, per instance.
    pub(crate) connections: usize,
    pub(crate) postgres_timeout: Duration,
    pub(crate) redis_timeout: Duration,
    /// What keeps our keys in Redis from those of another database.
    pub(crate) cache_namespace: String,
    /// How long an answer is fresh.
    pub(crate) fresh: Duration,
    /// For how long after that it is better than an error.
    pub(crate) stale: Duration,
    pub(crate) log_requests: bool,
}

impl Config {
    /// Reads every variable, also those that this run will not need: a typing error in a variable
    /// is better found now than when it is needed.
    pub(crate) fn from_env() -> Result<Self, Invalid> {
        Ok(Self {
            listen: address("LISTEN_ADDR", 3000)?,
            port_base: number("PORT_BASE", 3000, 0..=65_000, PORT)?,
            nginx: address("NGINX_ADDR", 8080)?,
            database_url: parsed("DATABASE_URL", None, DATABASE, database_url)?,
            redis_url: parsed("REDIS_URL", None, REDIS, redis_url)?,
            connections: number("POSTGRES_CONNECTIONS", 16, 1..=1_000, CONNECTIONS)?,
            postgres_timeout: limit("POSTGRES_TIMEOUT_SECONDS", 2.0)?,
            redis_timeout: limit("REDIS_TIMEOUT_SECONDS", 0.1)?,
            cache_namespace: parsed("CACHE_NAMESPACE", "tasks".to_owned(), NAMESPACE, |text| {
                (!text.is_empty()).then(|| text.to_owned())
            })?,
            fresh: seconds("CACHE_TTL_SECONDS", 30.0)?,
            stale: seconds("STALE_SECONDS", 300.0)?,
            log_requests: parsed("LOG_REQUESTS", true, "true or false", |text| {
                text.to_ascii_lowercase().parse().ok()
            })?,
        })
    }
}

/// How long one call may take.
fn limit(name: &'static str, default: f64) -> Result<Duration, Invalid> {
    let accepts = "a number of seconds from 0.001 to 60";
    number(name, default, 0.001..=60.0, accepts).map(Duration::from_secs_f64)
}

const PORT: &str = "a port from 1 to 65000, or 0 for free ones";
const DATABASE: &str = "a URL such as postgres://user:password@127.0.0.1:5432/database (no TLS)";
const REDIS: &str = "a URL such as redis://127.0.0.1:6379 (no TLS)";
const NAMESPACE: &str = "a text that is not empty";
const CONNECTIONS: &str = "a whole number from 1 to 1000";

/// An empty variable means the same as none: one is booted.
fn database_url(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let config: tokio_postgres::Config = text.parse().ok()?;
    // Without one we would connect to nothing.
    let somewhere = !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty();
    somewhere.then(|| Some(text.to_owned()))
}

fn redis_url(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    redis::Client::open(text)
        .ok()
        .map(|_| Some(text.to_owned()))
}
