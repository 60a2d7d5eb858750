//! The servers that go with it: those that are given, or throw-away ones.

use crate::{config::Config, log::say};
use example_support::servers::{Nginx, Postgres, Redis, free_port};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
};

/// nginx before the instances, as the template says.
pub(crate) fn front(mut address: SocketAddr, ports: &[u16]) -> io::Result<(Nginx, SocketAddr)> {
    if address.port() == 0 {
        address.set_port(free_port()?);
    }
    let server = |port| format!("    server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;\n");
    let servers: String = ports.iter().map(server).collect();
    let sites = include_str!("nginx.conf.template")
        .replace("@SERVERS@", servers.trim_end())
        .replace("@LISTEN@", &address.to_string());
    let nginx = Nginx::start(&sites)?;
    say(format_args!("nginx listening on http://{address}"));
    Ok((nginx, address))
}

/// Where Postgres and Redis are, and those that are ours, to be removed at the end.
pub(crate) struct Servers {
    pub(crate) database: String,
    pub(crate) redis: String,
    _postgres: Option<Postgres>,
    _redis: Option<Redis>,
}

impl Servers {
    pub(crate) fn boot(config: &mut Config) -> io::Result<Self> {
        let (database, postgres) = match &config.database_url {
            Some(url) => (url.clone(), None),
            None => {
                let postgres = Postgres::start_on_tcp()?;
                say(format_args!("a throw-away Postgres at {}", postgres.url()));
                if config.redis_url.is_some() {
                    // What somebody's Redis knows is not of this database, nor will be of the next.
                    let any = RandomState::new().hash_one(0);
                    config.cache_namespace = format!("{}-{any:x}", config.cache_namespace);
                }
                (postgres.url(), Some(postgres))
            }
        };
        let (url, redis) = match &config.redis_url {
            Some(url) => (url.clone(), None),
            None => {
                let redis = Redis::start()?;
                say(format_args!("a throw-away Redis at {}", redis.url()));
                (redis.url(), Some(redis))
            }
        };
        Ok(Self {
            database,
            redis: url,
            _postgres: postgres,
            _redis: redis,
        })
    }
}
