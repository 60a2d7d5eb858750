//! What the client is told.

use axum::{
    Json,
    body::Bytes,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use buttress::{Error, Rejected, http::Http};
use serde_json::json;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Whether the answer is older than it should be: what Postgres is asked for when it is well.
pub(crate) const STALE: HeaderName = HeaderName::from_static("x-stale");

/// `pending`: other instances may go on answering with what was written over, for a while.
pub(crate) const INVALIDATION: HeaderName = HeaderName::from_static("x-invalidation");

/// JSON that is ready.
pub(crate) fn body(status: StatusCode, json: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], json).into_response()
}

/// An error in JSON.
pub(crate) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}

pub(crate) fn no_such_item() -> Response {
    refuse(StatusCode::NOT_FOUND, "there is no item with this id")
}

/// Postgres has not answered, and there is nothing that could stand in for it.
pub(crate) fn unavailable<E>(error: Error<E>) -> Response {
    match error {
        Error::Rejected(rejected) => rejected_by(rejected),
        Error::Service(_) => no_postgres(),
    }
}

/// A policy has refused: with its `Retry-After` where it has one.
pub(crate) fn rejected_by(rejected: Rejected) -> Response {
    let refused: Response = Http.respond(rejected);
    let mut response = match rejected.policy() {
        crate::guarded::REQUESTS => {
            let why = "too many requests at once; please come back later";
            refuse(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        _ => no_postgres(),
    };
    for (name, value) in refused.headers() {
        if name != header::CONTENT_TYPE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn no_postgres() -> Response {
    let why = "the database does not answer, and this is not in the cache";
    refuse(StatusCode::SERVICE_UNAVAILABLE, why)
}
