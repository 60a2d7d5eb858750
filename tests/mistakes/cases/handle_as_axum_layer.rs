//! `.layer()` is missing
//~ buttress::cure::AddLayer<
//~ `buttress::cure::AddLayer<Route>` is not implemented for `buttress::RateLimiter`
//~ // write `.layer()` behind the policy

use axum::{Router, routing::get};
use buttress::{
    InvalidConfig, RateLimiter,
    http::{Http, RespondLayer},
};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    let limiter = RateLimiter::new("api", 100, Duration::from_secs(1))?;
    #[cfg(feature = "cure")]
    let limiter = RespondLayer::new(Http, limiter.layer());
    let _app: Router = Router::new().route("/", get(async || "in")).layer(limiter);
    Ok(())
}
