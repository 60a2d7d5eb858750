//! Whether the service can answer, and with what.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use redis::{Client, RedisResult};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// A look at Redis from outside of the cache, which only looks when it is asked for something.
#[derive(Clone)]
pub(crate) struct Redis {
    client: Client,
    timeout: Duration,
}

impl Redis {
    pub(crate) fn new(url: &str, timeout: Duration) -> RedisResult<Self> {
        let client = Client::open(url)?;
        Ok(Self { client, timeout })
    }

    /// Whether it answers in time, on a connection of its own.
    pub(crate) async fn ping(&self) -> bool {
        let ping = async {
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await
        };
        timeout(self.timeout, ping)
            .await
            .is_ok_and(|pong| pong.is_ok())
    }
}

/// With Postgres all is answered, with Redis what is cached, with neither nothing that one could
/// count on.
pub(crate) fn answer(postgres: bool, redis: bool) -> Response {
    let (status, word) = match (postgres, redis) {
        (true, true) => (StatusCode::OK, "up"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
        _ => (StatusCode::OK, "degraded"),
    };
    let part = |up| if up { "up" } else { "down" };
    let body = json!({"status": word, "postgres": part(postgres), "redis": part(redis)});
    (status, Json(body)).into_response()
}
