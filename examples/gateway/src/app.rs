//! The gateway's routes.

use crate::{
    answer::{instead, refuse},
    metrics::{self, Metrics},
    policies::Policies,
};
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri, header},
    response::IntoResponse,
    routing::get,
};
use buttress::http::RateLimitHeadersLayer;
use tower::ServiceExt;

/// The gateway in front of the backend at this URL.
pub(crate) fn router(policies: &Policies, backend: Uri, metrics: Metrics) -> Router {
    let proxy = policies.proxy(backend);
    let data = async move |request: Request| proxy.oneshot(request).await.unwrap_or_else(instead);
    let mut data = get(data);
    if let Some(limiter) = &policies.limiter {
        data = data.layer(RateLimitHeadersLayer::new(limiter.clone()));
    }
    Router::new()
        .route("/api/v1/data", data)
        .route("/health", get(health))
        .route("/metrics", get(metrics::show))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here")
        })
        .with_state(metrics)
}

/// Says that the gateway is there; what it thinks of the backend is in the metrics.
async fn health() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        r#"{"status":"ok"}"#,
    )
}
