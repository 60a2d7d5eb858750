//! Lists of tasks, kept in Redis for all instances.

use crate::{
    app::App,
    config::Config,
    db::{Db, Failure},
    log,
    problem::Problem,
    tasks::Filter,
};
use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use buttress::{
    InvalidConfig,
    cache::{Binary, Cache, Freshness, KeyRef, Store},
    redis::RedisStore,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Answers as they are sent: a hit costs no more than a copy.
pub(crate) type Lists = Cache<String, RedisStore<Binary>>;

/// What every list bears, because every change of a task may change every list.
pub(crate) const TAG: &str = "tasks";

/// Builds the cache, and gives Redis a moment to take its connection: without, the first answers
/// would be loaded, and the first writes be pending, for nothing.
pub(crate) async fn build(config: &Config, url: &str) -> Result<Lists, InvalidConfig> {
    let store = RedisStore::builder(url)
        .namespace(&*config.cache_namespace)
        .codec(Binary)
        .connect()?;
    let lists = Cache::builder("tasks")
        .freshness(Freshness {
            fresh: config.fresh,
            // Nobody gets a stale list while there is a fresh one to be had.
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: config.stale,
        })
        // Longer than a load can take: a wait for a connection, and a query.
        .lease(config.postgres_timeout * 2 + Duration::from_secs(1))
        .store_timeout(config.redis_timeout)
        .store(store)
        .build()?;
    let connected = async {
        while !answers(&lists).await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(Duration::from_secs(1), connected).await.is_err() {
        log::line(format_args!("Redis does not answer; going on without"));
    }
    Ok(lists)
}

/// Whether Redis answers: asked past the policies around it, which would say what they know.
pub(crate) async fn answers(lists: &Lists) -> bool {
    let key = KeyRef::new("is anybody there?").to_owned();
    Store::<String>::look(lists.store(), &key).await.is_ok()
}

/// The list, from Redis or, if need be, from Postgres; or a stale one if Postgres is away.
pub(crate) async fn list(app: &App, filter: Filter) -> Result<Response, Problem> {
    let (key, db) = (filter.key(), app.db.clone());
    let key = KeyRef::new(&key).tagged(TAG);
    // The load may go on when this request is gone, so it owns what it uses.
    let cached = app.lists.run(key, move || load(filter, db)).await?;
    let mut response = cached.value.into_response();
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::AGE, cached.status.age().as_secs().into());
    if let Ok(status) = cached.status.to_string().try_into() {
        const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
        headers.insert(CACHE_STATUS, status);
    }
    Ok(response)
}

async fn load(filter: Filter, db: Db) -> Result<String, Failure> {
    let list = filter.read(&db).await?;
    // Strings and numbers can always be written.
    Ok(serde_json::to_string(&list).unwrap_or_default())
}

/// A write is committed, and noted under this number: tells Redis, before the client is told. What
/// cannot be said to Redis now is said later, by the relay; and the client is told that, too.
pub(crate) async fn invalidate(app: &App, note: i64, mut response: Response) -> Response {
    match app.lists.invalidate_tag(TAG).await {
        Ok(()) => {
            // If it stays, Redis is told once more, which does no harm.
            let forget = "DELETE FROM invalidations WHERE id = $1";
            let _ = app.db.query(forget, &[&note]).await;
        }
        Err(pending) => {
            log::line(format_args!("{pending}"));
            const INVALIDATION: HeaderName = HeaderName::from_static("x-cache-invalidation");
            let value = HeaderValue::from_static("pending");
            response.headers_mut().insert(INVALIDATION, value);
        }
    }
    response
}
