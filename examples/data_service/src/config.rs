//! What the service can be told through its environment.

use crate::env::{Invalid, address, number, parsed, seconds};
use std::{net::SocketAddr, time::Duration};

/// The service's settings; the README lists the variables with their defaults.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// With all that the library has, or bare.
    pub(crate) resilient: bool,
    /// None: a private one is started.
    pub(crate) database: Option<tokio_postgres::Config>,
    /// None: a private one is started.
    pub(crate) redis: Option<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) max_concurrent: usize,
    /// For how long a cached answer is fresh.
    pub(crate) fresh: Duration,
    /// For how long after that it may stand in for Postgres.
    pub(crate) stale: Duration,
    pub(crate) postgres_timeout: Duration,
    pub(crate) redis_timeout: Duration,
}

impl Config {
    /// Reads every variable, also those that this run will not need: a typing error in a variable
    /// is better found now than when it is needed.
    pub(crate) fn from_env() -> Result<Self, Invalid> {
        Ok(Self {
            resilient: parsed("RESILIENCE", true, "on or off", switch)?,
            database: parsed("DATABASE_URL", None, DATABASE, optional(database_url))?,
            redis: parsed("REDIS_URL", None, REDIS, optional(redis_url))?,
            listen: address("LISTEN_ADDR", 8000)?,
            max_concurrent: number("MAX_CONCURRENT", 100, 1..=100_000, CONCURRENT)?,
            fresh: seconds("CACHE_TTL_SECONDS", 30.0)?,
            stale: number("STALE_SECONDS", 3600.0, 0.0..=86_400.0, STALE)
                .map(Duration::from_secs_f64)?,
            postgres_timeout: seconds("POSTGRES_TIMEOUT_SECONDS", 1.0)?,
            redis_timeout: seconds("REDIS_TIMEOUT_SECONDS", 0.1)?,
        })
    }
}

const DATABASE: &str = "a URL such as postgres://user:password@127.0.0.1:5432/database";
const REDIS: &str = "a URL such as redis://127.0.0.1:6379";
const CONCURRENT: &str = "a whole number from 1 to 100000";
const STALE: &str = "a number of seconds from 0 to 86400";

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// An empty variable means the same as none: start a private one.
fn optional<T>(parse: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Option<T>> {
    move |text| match text {
        "" => Some(None),
        text => parse(text).map(Some),
    }
}

fn database_url(text: &str) -> Option<tokio_postgres::Config> {
    let config: tokio_postgres::Config = text.parse().ok()?;
    // Without one there is nothing to connect to.
    let somewhere = !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty();
    somewhere.then_some(config)
}

fn redis_url(text: &str) -> Option<String> {
    redis::Client::open(text).ok().map(|_| text.to_owned())
}
