//! A layer has not been told what responses mean
//~ does not tell what a `Result<
//~ add `.http()` to the layer

use axum::{Router, routing::get};
use buttress::{
    LoadShed,
    http::{Http, RespondLayer},
};

fn main() {
    let layer = LoadShed::new("api").queued().layer();
    #[cfg(feature = "cure")]
    let layer = layer.http();
    let _app: Router = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(Http, layer));
}
