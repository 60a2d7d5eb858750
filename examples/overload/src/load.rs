//! Users who come whenever they like, whatever became of those before them.

use crate::service::{CAPACITY, Client, Failure};
use axum::http::StatusCode;
use buttress::Error;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};
use tower::ServiceExt;

pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: usize,
    /// Of the capacity.
    pub(crate) load: f64,
}

impl Phase {
    pub(crate) fn new(name: &'static str, seconds: usize, load: f64) -> Self {
        Self {
            name,
            seconds,
            load,
        }
    }
}

/// What became of the requests that came in one second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) offered: usize,
    pub(crate) served: Vec<Duration>,
    pub(crate) refused: usize,
    pub(crate) failed: usize,
}

pub(crate) async fn play(phases: &[Phase], url: &str, clients: &[Client]) -> Vec<Second> {
    let length = phases.iter().map(|phase| phase.seconds).sum();
    let seconds = Arc::new(Mutex::new(vec![Second::default(); length]));
    let mut dice = StdRng::seed_from_u64(1);
    let begun = now();
    let (mut next, mut end) = (0.0, 0.0);
    for phase in phases {
        end += phase.seconds as f64;
        while next < end {
            sleep_until(begun + Duration::from_secs_f64(next)).await;
            let client = clients[dice.random_range(0..clients.len())].clone();
            tokio::spawn(user(
                client,
                url.to_owned(),
                next as usize,
                Arc::clone(&seconds),
            ));
            next -= (1.0 - dice.random::<f64>()).ln() / (phase.load * CAPACITY);
        }
    }
    // The last ones' patience.
    sleep(Duration::from_secs(2)).await;
    seconds
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

async fn user(client: Client, url: String, second: usize, seconds: Arc<Mutex<Vec<Second>>>) {
    let came = now();
    let Ok(request) = http::Request::get(url).body(reqwest::Body::default()) else {
        return;
    };
    let answer: Result<StatusCode, Failure> = client.oneshot(request).await;
    let mut seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(second) = seconds.get_mut(second) else {
        return;
    };
    second.offered += 1;
    match answer {
        Ok(StatusCode::OK) => second.served.push(came.elapsed()),
        Ok(StatusCode::SERVICE_UNAVAILABLE) => second.refused += 1,
        // Throttled: refused before it was sent.
        Err(Error::Rejected(rejected)) if !rejected.reached_service() => second.refused += 1,
        _ => second.failed += 1,
    }
}

/// Load is made on the clock.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
