//! A cache of another type
//~ expected `StoredResponse`, found `Response<Body>`
//~ `http::Response` is kept by `cache.http_layer()`

use axum::{Router, routing::get};
use buttress::{
    Cache, InvalidConfig,
    http::{Http, RespondLayer, StoredResponse},
};

fn main() -> Result<(), InvalidConfig> {
    let pages = Cache::builder("pages").build::<StoredResponse>()?;
    #[cfg(not(feature = "cure"))]
    let layer = pages.layer(|request: &axum::extract::Request| Some(request.uri().to_string()));
    #[cfg(feature = "cure")]
    let layer = pages.http_layer();
    let _app: Router = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(Http, layer));
    Ok(())
}
