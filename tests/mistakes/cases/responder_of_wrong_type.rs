//! A responder of another type
//~ to return `Response<_>`, but it returns `String`

use axum::{Router, routing::get};
use buttress::{LoadShed, Rejected, http::RespondLayer};

fn main() {
    #[cfg(not(feature = "cure"))]
    let responder = |rejected: Rejected| rejected.to_string();
    #[cfg(feature = "cure")]
    let responder = |rejected: Rejected| http::Response::new(rejected.to_string());
    let _app: Router = Router::new()
        .route("/", get(async || "in"))
        .layer(RespondLayer::new(
            responder,
            LoadShed::new("api").layer().http(),
        ));
}
