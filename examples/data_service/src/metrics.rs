//! What the policies and the cache have done, for Prometheus.

use crate::guarded::Guarded;
use axum::{Router, http::header, routing::get};
use buttress::registry::Registry;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};

/// `GET /metrics`. Has all of the process record for it.
///
/// # Errors
/// If something else records already.
pub(crate) fn router(guarded: &Guarded) -> Result<Router, BuildError> {
    let recorder = PrometheusBuilder::new().install_recorder()?;
    let registry = Registry::new();
    guarded.observe(&registry);
    let show = async move || {
        // Counted by the policies all the time, and written down only for who asks.
        registry.publish();
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], recorder.render())
    };
    Ok(Router::new().route("/metrics", get(show)))
}
