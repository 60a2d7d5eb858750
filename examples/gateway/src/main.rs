//! A resilient API gateway in front of a deliberately flaky backend.
//!
//! `cargo run --release -p gateway` starts both; see the README beside this file.

mod answer;
mod app;
mod backend;
mod config;
mod metrics;
mod policies;
mod prometheus;

use config::{Backend, Config};
use example_support::{env, shutdown};
use metrics::Metrics;
use policies::Policies;
use prometheus::Prometheus;
use shutdown::Stop;
use std::{
    error::Error,
    future::IntoFuture,
    io::{Write, stdout},
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
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
    let gateway = listen("GATEWAY_ADDR", config.gateway_addr).await?;
    let backend = match &config.backend {
        Backend::At(url) => url.clone(),
        Backend::Flaky(address, behaviour) => {
            let listener = listen("BACKEND_ADDR", *address).await?;
            let url = format!("http://{}", listener.local_addr()?);
            let backend = axum::serve(listener, backend::router(*behaviour));
            tokio::spawn(backend.into_future());
            say(format_args!("flaky backend listening on {url}"));
            url
        }
    };

    let policies = Policies::new(&config)?;
    let recorder = Prometheus::install()?;
    let metrics = Metrics::new(policies.clone(), recorder);
    let app = app::router(&policies, format!("{backend}/flaky-data").parse()?, metrics)
        .into_make_service_with_connect_info::<SocketAddr>();

    let url = format!("http://{}", gateway.local_addr()?);
    let (drain, drained) = oneshot::channel::<()>();
    let server = axum::serve(gateway, app).with_graceful_shutdown(async {
        let _ = drained.await;
    });
    say(format_args!("gateway listening on {url}"));
    say(format_args!("  curl -i {url}/api/v1/data"));
    say(format_args!("  curl {url}/metrics"));
    say(format_args!("  curl -H 'Accept: text/plain' {url}/metrics"));
    if matches!(config.backend, Backend::Flaky(..)) {
        say(format_args!(
            "  curl -X PUT {backend}/behaviour -d '{{\"failure_rate\": 1}}'"
        ));
        say(format_args!("  examples/gateway/verify.sh {url} {backend}"));
    }
    say(format_args!("Ctrl-C drains and stops."));

    let mut server = pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = stop.asked() => {}
    }
    // New connections are refused from here on; requests that run are finished, for as long as one
    // can take. The backend, which they need, goes last, with the process.
    say(format_args!("Draining; Ctrl-C again to stop at once."));
    let _ = drain.send(());
    tokio::select! {
        ended = timeout(config.longest_request(), &mut server) => match ended {
            Ok(ended) => Ok(ended?),
            Err(_) => Err("stopped, with requests that took too long".into()),
        },
        () = stop.asked() => Err("stopped, without waiting for the requests that ran".into()),
    }
}

async fn listen(variable: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {variable} {address}: {error}"))
}

/// Like `println!`, but a reader that has gone is no reason to stop.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(stdout(), "{line}");
}
