//! A data service over Postgres with Redis beside it, which answers when either is gone.
//!
//! `cargo run --release -p data_service` starts it with servers of its own; see the README
//! beside this file.

mod answer;
mod app;
mod cached;
mod config;
mod guarded;
mod health;
mod items;
mod metrics;
mod outbox;
mod pool;

use app::Service;
use axum::Router;
use config::Config;
use example_support::{env, servers, shutdown};
use guarded::Guarded;
use items::Items;
use pool::Pool;
use servers::{Postgres, Redis};
use shutdown::Stop;
use std::{
    error::Error,
    future::IntoFuture,
    io::{Write, stdout},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(invalid) => {
            eprintln!("{invalid}");
            return ExitCode::from(2);
        }
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    // First of all: from the first line on we can be told to stop.
    let mut stop = Stop::listen()?;
    let listener = listen(&config).await?;
    // Removed when this function ends.
    let (database, _postgres) = match config.database.clone() {
        Some(database) => (database, None),
        None => {
            let postgres = Postgres::start_on_tcp()?;
            say(format_args!("private Postgres at {}", postgres.url()));
            (postgres.url().parse()?, Some(postgres))
        }
    };
    let (redis, _redis) = match config.redis.clone() {
        Some(redis) => (redis, None),
        // The bare service has no cache.
        None if !config.resilient => (String::new(), None),
        None => {
            let redis = Redis::start()?;
            say(format_args!("private Redis at {}", redis.url()));
            (redis.url(), Some(redis))
        }
    };

    let limit = config.resilient.then_some(config.postgres_timeout);
    let items = Items(Pool::new(database, limit)?);
    let (service, metrics) = if config.resilient {
        let answers = cached::new(&config, &redis)?;
        let redis = health::Redis::new(&redis, config.redis_timeout)?;
        let guarded = Arc::new(Guarded::new(&config, items, answers, redis)?);
        let metrics = metrics::router(&guarded)?;
        if let Err(error) = outbox::prepare(&guarded).await {
            say(format_args!("Postgres is not there yet: {error}"));
        }
        tokio::spawn(outbox::work(Arc::clone(&guarded)));
        (Service::Guarded(guarded), metrics)
    } else {
        items.prepare().await?;
        // It has no policies that could have done anything.
        (Service::Bare(items), Router::new())
    };

    let url = format!("http://{}", listener.local_addr()?);
    let (drain, drained) = oneshot::channel::<()>();
    let app = app::router(service).merge(metrics);
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = drained.await;
    });
    say(format_args!("data service listening on {url}"));
    say(format_args!("  curl -i '{url}/data?limit=3'"));
    say(format_args!("  curl -i {url}/data/7"));
    say(format_args!(
        "  curl -i {url}/data -d '{{\"name\": \"a\", \"value\": 1}}'"
    ));
    say(format_args!("  curl -i {url}/health"));
    if config.resilient {
        say(format_args!("  curl {url}/metrics"));
    }
    say(format_args!("Ctrl-C drains and stops."));

    let mut server = pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = stop.asked() => {}
    }
    // New connections are refused from here on; requests that run are finished. The databases,
    // which they need, go last.
    say(format_args!("Draining; Ctrl-C again to stop at once."));
    let _ = drain.send(());
    let longest = config.postgres_timeout + config.redis_timeout + Duration::from_secs(1);
    tokio::select! {
        ended = timeout(longest, &mut server) => match ended {
            Ok(ended) => Ok(ended?),
            Err(_) => Err("stopped, with requests that took too long".into()),
        },
        () = stop.asked() => Err("stopped, without waiting for the requests that ran".into()),
    }
}

async fn listen(config: &Config) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(config.listen).await;
    listener.map_err(|error| format!("cannot listen on LISTEN_ADDR {}: {error}", config.listen))
}

/// Like `println!`, but a reader that has gone is no reason to stop.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(stdout(), "{line}");
}
