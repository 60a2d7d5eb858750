//! `.layer()` is missing
//~ is a policy, and not a layer
//~ write `.layer()` behind it

use axum::{Router, routing::get};
use buttress::{
    LoadShed,
    http::{Http, RespondLayer},
};

fn main() {
    let shed = LoadShed::new("api").queued();
    #[cfg(feature = "cure")]
    let shed = shed.layer().http();
    let _app: Router = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(Http, shed));
}
