//! The Task Management API: Postgres behind a cache in Redis, in one instance or in several behind
//! nginx.
//!
//! `cargo run --release --example tasks -- --instances 4 --nginx`; see the README beside this file.

mod app;
mod args;
mod body;
mod cached;
mod categories;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod db;
#[path = "../gateway/env.rs"]
mod env;
mod fleet;
mod health;
mod instance;
mod list;
mod log;
mod migrate;
mod path;
mod problem;
mod query;
mod relay;
#[path = "../gateway/shutdown.rs"]
mod shutdown;
mod tasks;
mod users;

use args::Args;
use common::{Nginx, Postgres, Redis, free_port};
use config::Config;
use fleet::Fleet;
use log::say;
use shutdown::Stop;
use std::{
    error::Error,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    process::ExitCode,
};
use tokio::{io::AsyncReadExt, sync::mpsc};

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(unknown) => return wrong(&unknown),
    };
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(invalid) => return wrong(&invalid),
    };
    let ended = run(args, config).await;
    log::finish();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(what: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{what}");
    ExitCode::from(2)
}

async fn run(args: Args, mut config: Config) -> Result<(), Failed> {
    // First of all: from the first line on we can be told to stop.
    let mut stop = Stop::listen()?;
    let (asked, stopped) = mpsc::channel(2);
    if args.until_stdin_ends {
        // One of several: whoever started us tells us when to stop, or is gone.
        tokio::spawn(async move {
            let mut input = tokio::io::stdin();
            while input.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
            let _ = asked.send(()).await;
            while {
                stop.asked().await;
                asked.send(()).await.is_ok()
            } {}
        });
    } else {
        tokio::spawn(async move {
            loop {
                stop.asked().await;
                if asked.send(()).await.is_err() {
                    return;
                }
            }
        });
    }

    let servers = Servers::boot(&mut config)?;
    let urls = (servers.database.as_str(), servers.redis.as_str());
    match args.instances {
        None if !args.nginx => {
            let started = |url: &str| {
                log::line(format_args!("listening on {url}"));
                if !args.until_stdin_ends {
                    invite(url);
                }
            };
            instance::serve(&config, urls, started, stopped).await
        }
        instances => several(&config, urls, instances.unwrap_or(1), args.nginx, stopped).await,
    }
}

async fn several(
    config: &Config,
    urls: (&str, &str),
    count: u16,
    nginx: bool,
    mut stopped: mpsc::Receiver<()>,
) -> Result<(), Failed> {
    let port = |n| match config.port_base {
        0 => free_port(),
        base => base
            .checked_add(n)
            .ok_or_else(|| io::Error::other("PORT_BASE is too high")),
    };
    let ports = (0..count).map(port).collect::<io::Result<Vec<_>>>()?;
    let fleet = tokio::select! {
        fleet = Fleet::start(config, &ports, urls) => fleet?,
        _ = stopped.recv() => return Ok(()),
    };
    let front = nginx.then(|| front(config.nginx, &ports)).transpose();
    let front = match front {
        Ok(front) => front,
        Err(error) => {
            fleet.stop().await;
            return Err(error.into());
        }
    };
    match &front {
        Some((_, address)) => invite(&format!("http://{address}")),
        None => invite(&format!("http://127.0.0.1:{}", ports.first().unwrap_or(&0))),
    }
    let _ = stopped.recv().await;
    say(format_args!("Draining; Ctrl-C again to stop at once."));
    tokio::select! {
        () = fleet.stop() => Ok(()),
        _ = stopped.recv() => Err("stopped, without waiting for the requests that ran".into()),
    }
    // nginx, which passes on the last answers, goes after the instances; the databases last.
}

/// nginx before the instances, as the template says.
fn front(mut address: SocketAddr, ports: &[u16]) -> io::Result<(Nginx, SocketAddr)> {
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
struct Servers {
    database: String,
    redis: String,
    _postgres: Option<Postgres>,
    _redis: Option<Redis>,
}

impl Servers {
    fn boot(config: &mut Config) -> io::Result<Self> {
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

fn invite(url: &str) {
    say(format_args!("  open {url}/docs"));
    say(format_args!(
        "  curl -i {url}/tasks -d '{{\"title\": \"Buy milk\"}}'"
    ));
    say(format_args!(
        "  curl -i '{url}/tasks?status=pending&sort=-title&limit=10'"
    ));
    say(format_args!("  curl {url}/health"));
    say(format_args!("Ctrl-C drains and stops."));
}
