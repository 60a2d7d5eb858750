//! What a layer does that is told nothing more.

use super::support::TERMS;
use axum::{body::Body, extract::Request, response::IntoResponse};
use buttress::{
    cache::{Cache, CacheLayer, MemoryStore},
    http::{HttpAdapter, StoredResponse},
};
use http::StatusCode;
use std::{convert::Infallible, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

const MIB: usize = 1 << 20;

/// Exact times.
fn layer() -> CacheLayer<StoredResponse, MemoryStore<StoredResponse>, HttpAdapter> {
    let cache = Cache::builder("pages").freshness(TERMS).jitter(0.0);
    cache.early_refresh(0.0).build().unwrap().http_layer()
}

/// `Cache-Status` of the answer to `/<status>/<bytes>`, which has these.
async fn said(
    layer: &CacheLayer<StoredResponse, MemoryStore<StoredResponse>, HttpAdapter>,
    status: u16,
    bytes: usize,
) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    let service = service_fn(move |_: Request| async move {
        Ok::<_, buttress::Error<Infallible>>((status, vec![b'x'; bytes]).into_response())
    });
    let req = Request::get(format!("/{}/{bytes}", status.as_u16()));
    let req = req.body(Body::empty()).unwrap();
    let response = layer.layer(service).oneshot(req).await.unwrap();
    let said = response.headers()["cache-status"].to_str().unwrap();
    said.to_owned()
}

#[tokio::test(start_paused = true)]
async fn that_something_is_not_there_is_kept_for_five_seconds() {
    let layer = layer();
    assert!(said(&layer, 404, 1).await.ends_with("stored"));
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert!(said(&layer, 404, 1).await.contains("; hit"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(said(&layer, 404, 1).await.ends_with("stored"));
}

#[tokio::test]
async fn a_body_is_kept_up_to_a_mebibyte() {
    let layer = layer();
    for (bytes, kept) in [(MIB, true), (MIB + 1, false)] {
        said(&layer, 200, bytes).await;
        assert_eq!(said(&layer, 200, bytes).await.contains("; hit"), kept);
    }
}
