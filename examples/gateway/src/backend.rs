//! The flaky backend: it succeeds, answers 503, or is slow, at random.

use crate::answer::refuse;
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How the backend behaves. A request fails with the first probability; if it does not, it is slow
/// with the second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Behaviour {
    pub(crate) failure_rate: f64,
    pub(crate) slow_rate: f64,
    pub(crate) delay_seconds: f64,
}

/// A change of it: what is not named stays as it is. The variables' names are understood too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(alias = "FLAKY_FAILURE_RATE")]
    failure_rate: Option<f64>,
    #[serde(alias = "FLAKY_SLOW_RATE")]
    slow_rate: Option<f64>,
    #[serde(alias = "FLAKY_DELAY_SECONDS")]
    delay_seconds: Option<f64>,
}

/// The behaviour, as the handlers share it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Behaviour>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Behaviour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend's routes.
pub(crate) fn router(behaviour: Behaviour) -> Router {
    Router::new()
        .route("/flaky-data", get(flaky_data))
        .route("/behaviour", get(show).put(change))
        .with_state(Shared(Arc::new(Mutex::new(behaviour))))
}

async fn flaky_data(State(behaviour): State<Shared>) -> Response {
    let now = *behaviour.lock();
    if chance(now.failure_rate) {
        let why = "the backend has failed, as it was told to";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let slow = chance(now.slow_rate);
    if slow {
        tokio::time::sleep(Duration::from_secs_f64(now.delay_seconds)).await;
    }
    Json(json!({"data": "here you are", "slow": slow})).into_response()
}

async fn show(State(behaviour): State<Shared>) -> Json<Behaviour> {
    Json(*behaviour.lock())
}

/// Takes JSON whatever its content type says, so that `curl -d` needs no header.
async fn change(State(behaviour): State<Shared>, body: Bytes) -> Response {
    let change: Change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) if error.is_data() => {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut current = behaviour.lock();
    let new = Behaviour {
        failure_rate: change.failure_rate.unwrap_or(current.failure_rate),
        slow_rate: change.slow_rate.unwrap_or(current.slow_rate),
        delay_seconds: change.delay_seconds.unwrap_or(current.delay_seconds),
    };
    let wrong = [
        ("failure_rate", new.failure_rate, 1.0),
        ("slow_rate", new.slow_rate, 1.0),
        ("delay_seconds", new.delay_seconds, 3600.0),
    ];
    for (name, given, most) in wrong {
        if !(0.0..=most).contains(&given) {
            let text = format!("{name} is {given}, but must be from 0 to {most}");
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, &text);
        }
    }
    *current = new;
    Json(new).into_response()
}

// Randomness is the point here; elsewhere the lint asks for a seed.
#[allow(clippy::disallowed_methods)]
fn chance(rate: f64) -> bool {
    rand::random::<f64>() < rate
}
