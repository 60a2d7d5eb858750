//! Keys in routers that axum nests: each of them sees a path without its prefix.

use crate::server::serve;
use axum::{Router, extract::OriginalUri, routing::get};
use buttress::{
    GuardLayer, Key, RateLimiter,
    http::{Http, PathKey, RespondLayer},
};
use http::Request;
use std::time::Duration;

/// Asks each path twice, of which each is allowed once.
async fn once_each<K>(key: K)
where
    K: Key<Request<axum::body::Body>> + Send + Sync + 'static,
{
    let limiter = RateLimiter::builder("per path", 1, Duration::from_secs(3600));
    let limiter = limiter.keyed(key).build().unwrap();
    let limited = |router: Router| {
        let layer = GuardLayer::new(limiter.clone()).http();
        router.layer(RespondLayer::new(Http, layer))
    };
    let items = || limited(Router::new().route("/items", get("items")));
    let app = Router::new()
        .nest("/a", items())
        .nest("/b", items())
        .nest("/deep", Router::new().nest("/a", items()))
        .merge(items());
    let address = serve(app).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for allowed in [true, false] {
        for path in ["/items", "/a/items", "/b/items?page=2", "/deep/a/items"] {
            let url = format!("http://{address}{path}");
            let status = client.get(url).send().await.unwrap().status();
            assert_eq!(status.is_success(), allowed, "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn paths_in_nested_routers_have_limits_of_their_own() {
    once_each(PathKey).await;
    once_each(PathKey::from_extension::<OriginalUri>()).await;
}
