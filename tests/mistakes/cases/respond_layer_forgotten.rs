//! A layer around a `Router`
//~ cannot hold a `Rejected`
//~ wrap the stack, `RespondLayer::new(Http, stack)`

use axum::{Router, routing::get};
use buttress::{
    LoadShed,
    http::{Http, RespondLayer},
};

fn main() {
    let stack = LoadShed::new("api").layer().http();
    #[cfg(feature = "cure")]
    let stack = RespondLayer::new(Http, stack);
    let _app: Router = Router::new().route("/", get(async || "in")).layer(stack);
}
