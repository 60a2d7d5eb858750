//! The service's routes.

use crate::{
    answer::{self, refuse},
    guarded::Guarded,
    items::{Failure, Items, NewItem, Unfit},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

/// The same service twice.
#[derive(Clone)]
pub(crate) enum Service {
    /// As one would write it first.
    Bare(Items),
    /// With policies and a cache around Postgres.
    Guarded(Arc<Guarded>),
}

/// The routes.
pub(crate) fn router(service: Service) -> Router {
    let data = Router::new()
        .route("/data", get(list).post(create))
        .route("/data/{id}", get(one));
    let data = match &service {
        Service::Bare(_) => data,
        Service::Guarded(guarded) => guarded.around(data),
    };
    Router::new()
        .merge(data)
        .route("/health", get(health))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "this method is not allowed here",
            )
        })
        .with_state(service)
}

async fn list(State(service): State<Service>, RawQuery(query): RawQuery) -> Response {
    let Some(limit) = limit(query.as_deref().unwrap_or_default()) else {
        let why = "limit must be a whole number from 1 to 1000";
        return refuse(StatusCode::BAD_REQUEST, why);
    };
    match service {
        Service::Bare(items) => match items.list(limit).await {
            Ok(json) => answer::body(StatusCode::OK, json),
            Err(error) => raw(&error),
        },
        Service::Guarded(guarded) => guarded.list(limit).await,
    }
}

async fn one(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let digits = id.strip_prefix('-').unwrap_or(&id);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse(StatusCode::BAD_REQUEST, "an id is a whole number");
    }
    // A number that is too large for the column is nobody's id.
    let Ok(id) = id.parse() else {
        return answer::no_such_item();
    };
    match service {
        Service::Bare(items) => match items.one(id).await {
            Ok(Some(json)) => answer::body(StatusCode::OK, json),
            Ok(None) => answer::no_such_item(),
            Err(error) => raw(&error),
        },
        Service::Guarded(guarded) => guarded.one(id).await,
    }
}

/// Takes JSON whatever its content type says, so that `curl -d` needs no header.
async fn create(State(service): State<Service>, body: Bytes) -> Response {
    let new: NewItem = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if new.name.trim().is_empty() || new.name.chars().count() > 200 {
        let why = "name must be a text of 1 to 200 characters";
        return refuse(StatusCode::BAD_REQUEST, why);
    }
    match service {
        Service::Bare(items) => match items.insert(&new).await {
            Ok(Ok(written)) => answer::body(StatusCode::CREATED, written.body),
            Ok(Err(unfit)) => unfit.into_response(),
            Err(error) => raw(&error),
        },
        Service::Guarded(guarded) => guarded.create(new).await,
    }
}

async fn health(State(service): State<Service>) -> Response {
    match service {
        Service::Bare(items) => match items.ping().await {
            Ok(()) => answer::body(StatusCode::OK, r#"{"status":"up","postgres":"up"}"#.into()),
            Err(error) => raw(&error),
        },
        Service::Guarded(guarded) => guarded.health().await,
    }
}

/// What a service says that has not been told what to say.
fn raw(error: &Failure) -> Response {
    let text = format!("Internal Server Error: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

impl IntoResponse for Unfit {
    fn into_response(self) -> Response {
        let why = "the database does not take these values";
        refuse(StatusCode::BAD_REQUEST, why)
    }
}

/// The limit in a query, the default if it has none, or nothing if it is wrong.
fn limit(query: &str) -> Option<i64> {
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut limits = parameters.filter(|(name, _)| *name == "limit");
    match limits.next_back() {
        Some((_, value)) => value.parse().ok().filter(|n| (1..=1000).contains(n)),
        None => Some(100),
    }
}
