//! One instance: serves until it is told to stop.

use crate::{
    app::{self, App},
    cached,
    config::Config,
    db::Db,
    log, migrate, relay,
};
use std::{error::Error, future::IntoFuture, pin::pin, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

type Failed = Box<dyn Error + Send + Sync>;

/// Serves, says so to `started` with its URL, and drains at the first `stop`; the second does not
/// wait for the requests that run.
pub(crate) async fn serve(
    config: &Config,
    (database, redis): (&str, &str),
    started: impl FnOnce(&str),
    mut stop: mpsc::Receiver<()>,
) -> Result<(), Failed> {
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener
        .map_err(|error| format!("cannot listen on LISTEN_ADDR {}: {error}", config.listen))?;
    let address = listener.local_addr()?;
    log::start(address.port().to_string());

    let db = Db::new(
        database.parse()?,
        config.connections,
        config.postgres_timeout,
    )?;
    tell_of_transitions(&db);
    migrate::start(db.clone()).await;
    let lists = cached::build(config, redis).await?;
    tokio::spawn(relay::run(db.clone(), lists.clone()));
    let app = App {
        db,
        lists,
        served_by: address.to_string().try_into()?,
        log_requests: config.log_requests,
    };

    let (drain, drained) = oneshot::channel::<()>();
    let server = axum::serve(listener, app::router(app)).with_graceful_shutdown(async {
        let _ = drained.await;
    });
    started(&format!("http://{address}"));

    let mut server = pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        _ = stop.recv() => {}
    }
    // New connections are refused from here on; requests that run are finished, for as long as
    // one can take.
    log::line(format_args!("draining"));
    let _ = drain.send(());
    let longest = config.postgres_timeout * 2 + config.redis_timeout * 4 + Duration::from_secs(1);
    tokio::select! {
        ended = timeout(longest, &mut server) => match ended {
            Ok(ended) => Ok(ended?),
            Err(_) => Err("stopped, with requests that took too long".into()),
        },
        () = asked(&mut stop) => Err("stopped, without waiting for the requests that ran".into()),
    }
}

/// Resolves at the next word; nobody left to say it is none.
async fn asked(stop: &mut mpsc::Receiver<()>) {
    if stop.recv().await.is_none() {
        std::future::pending().await
    }
}

fn tell_of_transitions(db: &Db) {
    let mut transitions = db.breaker().transitions();
    tokio::spawn(async move {
        while transitions.changed().await.is_ok() {
            let state = transitions.borrow_and_update().to;
            log::line(format_args!("circuit breaker of Postgres: {state:?}"));
        }
    });
}
