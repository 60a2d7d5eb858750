//! What the policies have done: JSON for people, Prometheus text for scrapers.

use crate::policies::Policies;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use buttress::{circuit_breaker, rate_limit, retry, timeout};
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

/// The policies, and the recorder that the `metrics` facade writes to.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) policies: Policies,
    pub(crate) recorder: PrometheusHandle,
}

/// The first four are the write-up's; behind them each policy tells its own.
#[derive(Serialize)]
struct Report {
    circuit_breaker_state: &'static str,
    total_retries: u64,
    rate_limit_allowed: u64,
    rate_limit_blocked: u64,
    circuit_breaker: circuit_breaker::Snapshot,
    retry: retry::Snapshot,
    timeout: timeout::Snapshot,
    rate_limit: Option<rate_limit::Snapshot>,
}

impl Report {
    fn of(policies: &Policies) -> Self {
        let retry = policies.retry.snapshot();
        let rate_limit = policies.limiter.as_ref().map(|limiter| limiter.snapshot());
        Self {
            circuit_breaker_state: name(policies.breaker.state()),
            total_retries: retry.retries,
            rate_limit_allowed: rate_limit.as_ref().map_or(0, |limit| limit.allowed),
            rate_limit_blocked: rate_limit.as_ref().map_or(0, |limit| limit.rejected),
            circuit_breaker: policies.breaker.snapshot(),
            retry,
            timeout: policies.timeout.snapshot(),
            rate_limit,
        }
    }
}

fn name(state: circuit_breaker::State) -> &'static str {
    match state {
        circuit_breaker::State::Closed => "CLOSED",
        circuit_breaker::State::Open => "OPEN",
        circuit_breaker::State::HalfOpen => "HALF_OPEN",
    }
}

/// `GET /metrics`
pub(crate) async fn show(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let report = Report::of(&metrics.policies);
    if !wants_text(&headers) {
        return Json(report).into_response();
    }
    // The names are those of the JSON.
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
