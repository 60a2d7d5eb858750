//! `/health`: what is well.

use crate::{app::App, cached};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What is well.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `up`; `degraded`: one of the two is down, and what can be answered is; `down`: both are.
    status: &'static str,
    /// `up` or `down`.
    postgres: &'static str,
    /// `up` or `down`.
    redis: &'static str,
}

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health))
}

/// Says what is well: 200 while there is something that can be answered.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn health(State(app): State<App>) -> Response {
    let (postgres, redis) = tokio::join!(postgres(&app), redis(&app));
    let (status, code) = match (postgres, redis) {
        (true, true) => ("up", StatusCode::OK),
        (false, false) => ("down", StatusCode::SERVICE_UNAVAILABLE),
        _ => ("degraded", StatusCode::OK),
    };
    let word = |up| if up { "up" } else { "down" };
    let (postgres, redis) = (word(postgres), word(redis));
    let health = Health {
        status,
        postgres,
        redis,
    };
    (code, Json(health)).into_response()
}

/// Longer is as good as never.
const PATIENCE: Duration = Duration::from_millis(500);

async fn postgres(app: &App) -> bool {
    let asked = timeout(PATIENCE, app.db.query("SELECT 1", &[])).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

async fn redis(app: &App) -> bool {
    let asked = timeout(PATIENCE, cached::answers(&app.lists)).await;
    asked.unwrap_or(false)
}
