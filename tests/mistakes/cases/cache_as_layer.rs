//! `.layer()` is missing
//~ is a policy, and not a layer
//~ write `.layer()` behind it

use axum::{Router, routing::get};
use buttress::{
    Cache, InvalidConfig,
    http::{Http, RespondLayer, StoredResponse},
};

fn main() -> Result<(), InvalidConfig> {
    let pages = Cache::builder("pages").build::<StoredResponse>()?;
    #[cfg(feature = "cure")]
    let pages = pages.http_layer();
    let _app: Router = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(Http, pages));
    Ok(())
}
