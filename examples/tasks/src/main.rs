//! The Task Management API: Postgres behind a cache in Redis, in one instance or in several behind
//! nginx.
//!
//! `cargo run --release -p tasks -- --instances 4 --nginx`; see the README beside this file.

mod app;
mod args;
mod body;
mod cached;
mod categories;
mod config;
mod db;
mod fleet;
mod health;
mod instance;
mod list;
mod log;
mod migrate;
mod path;
mod problem;
mod query;
mod refusals;
mod relay;
mod servers;
mod tasks;
mod users;

use args::Args;
use config::Config;
use example_support::{env, servers::free_port, shutdown};
use fleet::Fleet;
use log::say;
use servers::{Servers, front};
use shutdown::Stop;
use std::{error::Error, io, process::ExitCode, thread};
use tokio::sync::mpsc;

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
    let stopped = words(Stop::listen()?, args.until_stdin_ends);
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

/// Each is one word to stop: the signals and, for one of several instances, that whoever started it
/// has no more to say, or is gone.
fn words(mut stop: Stop, until_stdin_ends: bool) -> mpsc::Receiver<()> {
    let (word, words) = mpsc::channel(2);
    if until_stdin_ends {
        let word = word.clone();
        // No task: the runtime would wait for it, and it for its input.
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = word.blocking_send(());
        });
    }
    tokio::spawn(async move {
        loop {
            stop.asked().await;
            if word.send(()).await.is_err() {
                return;
            }
        }
    });
    words
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
