//! What the policies have done: JSON for people, Prometheus text for scrapers.

use crate::{policies::Policies, prometheus::Prometheus};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use buttress::{
    circuit_breaker::State as BreakerState,
    registry::{PolicySnapshot, Registry},
};
use metrics::{counter, gauge};
use serde::Serialize;

/// What is shown, and the recorder that the `metrics` facade writes to.
#[derive(Clone)]
pub(crate) struct Metrics {
    policies: Policies,
    registry: Registry,
    recorder: Prometheus,
}

/// The first four are the write-up's; behind them every policy tells all it knows.
#[derive(Serialize)]
struct Report {
    circuit_breaker_state: &'static str,
    total_retries: u64,
    rate_limit_allowed: u64,
    rate_limit_blocked: u64,
    policies: Vec<PolicySnapshot>,
}

impl Metrics {
    pub(crate) fn new(policies: Policies, recorder: Prometheus) -> Self {
        let registry = Registry::new();
        if let Some(limiter) = &policies.limiter {
            registry.add(limiter);
        }
        registry.add(&policies.breaker);
        registry.add(&policies.retry);
        registry.add(&policies.timeout);
        Self {
            policies,
            registry,
            recorder,
        }
    }

    fn report(&self) -> Report {
        let limit = self
            .policies
            .limiter
            .as_ref()
            .map(|limiter| limiter.snapshot());
        Report {
            circuit_breaker_state: match self.policies.breaker.state() {
                BreakerState::Closed => "CLOSED",
                BreakerState::Open => "OPEN",
                BreakerState::HalfOpen => "HALF_OPEN",
            },
            total_retries: self.policies.retry.snapshot().retries_total,
            // Without a limit nothing is counted.
            rate_limit_allowed: limit.as_ref().map_or(0, |limit| limit.admitted_total),
            rate_limit_blocked: limit.as_ref().map_or(0, |limit| limit.rejected_total),
            policies: self.registry.snapshot(),
        }
    }
}

/// `GET /metrics`
pub(crate) async fn show(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let report = metrics.report();
    if !wants_text(&headers) {
        return Json(report).into_response();
    }
    metrics.registry.publish();
    // The write-up's four again, under the names that they have in the JSON.
    counter!("total_retries").absolute(report.total_retries);
    counter!("rate_limit_allowed").absolute(report.rate_limit_allowed);
    counter!("rate_limit_blocked").absolute(report.rate_limit_blocked);
    for state in ["CLOSED", "OPEN", "HALF_OPEN"] {
        let is = state == report.circuit_breaker_state;
        gauge!("circuit_breaker_state", "state" => state).set(f64::from(u8::from(is)));
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.recorder.render()).into_response()
}

/// Scrapers ask for the text by its types. Clients that would take it among other things, JSON
/// first, get JSON.
fn wants_text(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        let lines = headers.get_all(header::ACCEPT).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let kinds = lines.flat_map(|line| line.split(','));
        let mut kinds = kinds.filter_map(|part| part.split(';').next());
        kinds.any(|k| k.trim().eq_ignore_ascii_case(kind))
    };
    let text = accepts("text/plain") || accepts("application/openmetrics-text");
    text && !accepts("application/json")
}
