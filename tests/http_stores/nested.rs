//! One cache in routers that axum nests: each of them sees the path without its prefix.

use crate::{servers::Redis, stores::*};
use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Path},
    routing::get,
};
use buttress::{
    cache::{Cache, CacheLayer, Store},
    http::{Http, HttpAdapter, RespondLayer, StoredResponse},
};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

type HttpLayer<St> = CacheLayer<StoredResponse, St, HttpAdapter>;

/// Answers `/`, `/items` and everything else with its name, and counts what it answered.
fn items<St: Store<StoredResponse>>(name: &'static str, layer: HttpLayer<St>) -> Router {
    Router::new()
        .route("/", get(name))
        .route("/items", get(name).post(name))
        .fallback(move || async move { (StatusCode::NOT_FOUND, name) })
        .layer(RespondLayer::new(Http, layer))
}

/// Nested once, twice, and under a name that the path gives.
fn nested<St: Store<StoredResponse>>(layer: &HttpLayer<St>) -> Router {
    let tenant = async |Path(tenant): Path<String>| tenant;
    let tenant = Router::new()
        .route("/items", get(tenant).post(tenant))
        .layer(RespondLayer::new(Http, layer.clone()));
    Router::new()
        .nest("/a", items("a", layer.clone()))
        .nest("/b", items("b", layer.clone()))
        .nest(
            "/deep",
            Router::new().nest("/a", items("deep a", layer.clone())),
        )
        .nest("/tenants/{tenant}", tenant)
        .merge(items("top", layer.clone()))
}

/// Whose answer it is, and whether it was in the cache.
async fn ask(app: &Router, method: Method, path: &str) -> (String, bool) {
    let req = Request::builder().method(method).uri(path);
    let req = req.header(header::HOST, "shop").body(Body::empty());
    let response = app.clone().oneshot(req.unwrap()).await.unwrap();
    let said = response.headers().get("cache-status").unwrap();
    let hit = said.to_str().unwrap().contains("; hit");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), hit)
}

async fn hit(app: &Router, path: &str) -> bool {
    ask(app, Method::GET, path).await.1
}

const PATHS: [(&str, &str); 13] = [
    ("/items", "top"),
    ("/a/items", "a"),
    ("/b/items", "b"),
    ("/deep/a/items", "deep a"),
    ("/a/items?page=2", "a"),
    ("/b/items?page=2", "b"),
    ("/a", "a"),
    ("/b", "b"),
    ("/", "top"),
    ("/a/none", "a"),
    ("/b/none", "b"),
    ("/tenants/1/items", "1"),
    ("/tenants/2/items", "2"),
];

async fn kept_apart<St: Store<StoredResponse>>(here: Cache<StoredResponse, St>) {
    let layer = here.http_layer().negative(60 * SECOND);
    let app = nested(&layer);
    for kept in [false, true] {
        for (path, name) in PATHS {
            let answer = ask(&app, Method::GET, path).await;
            assert_eq!(answer, (name.to_owned(), kept), "{path}");
        }
    }
    // A write invalidates what was asked for under the same path, and nothing else.
    for (write, _) in PATHS.iter().filter(|(path, _)| path.ends_with("/items")) {
        ask(&app, Method::POST, write).await;
        for (path, _) in PATHS {
            let same = path.split('?').next() == Some(*write);
            assert_eq!(hit(&app, path).await, !same, "{write}: {path}");
        }
    }
}

#[tokio::test]
async fn nested_routers_are_kept_apart_in_memory() {
    kept_apart(cache(memory()).await).await;
}

#[tokio::test]
async fn nested_routers_are_kept_apart_in_redis() {
    let redis = Redis::start().unwrap();
    kept_apart(cache(shared(&redis)).await).await;
}

#[tokio::test]
async fn nested_routers_are_kept_apart_in_memory_over_redis() {
    let redis = Redis::start().unwrap();
    kept_apart(listening(&redis).await).await;
}

#[tokio::test]
async fn where_the_layer_stands_does_not_matter() {
    let redis = Redis::start().unwrap();
    let (here, there) = (cache(shared(&redis)).await, cache(shared(&redis)).await);
    // On one instance inside of the nested router, on the other around all of them, or not nested.
    let inside = nested(&here.http_layer());
    let plain = || Router::new().route("/items", get("a").post("a"));
    let around = Router::new().nest("/a", plain());
    let around = around.layer(RespondLayer::new(Http, there.http_layer()));
    let flat = Router::new().route("/a/items", get("a").post("a"));
    let flat = flat.layer(RespondLayer::new(Http, there.http_layer()));
    for writer in [&around, &flat, &inside] {
        hit(&inside, "/a/items?page=2").await;
        assert!(hit(&inside, "/a/items?page=2").await);
        hit(&inside, "/b/items").await;
        ask(writer, Method::POST, "/a/items").await;
        assert!(!hit(&inside, "/a/items?page=2").await);
        assert!(hit(&inside, "/b/items").await);
    }
    hit(&around, "/a/items").await;
    assert!(hit(&flat, "/a/items").await, "it is the same path");
    ask(&inside, Method::POST, "/a/items").await;
    assert!(!hit(&around, "/a/items").await);
}

#[tokio::test]
async fn a_tag_is_made_of_what_the_client_sent() {
    let cache = cache(memory()).await;
    let tag = |uri: &http::Uri| uri.path().rsplit_once('/').unwrap().0.to_owned();
    let app = nested(&cache.http_layer().tag(tag));
    for (path, name) in [("/a/items", "a"), ("/b/items", "b")] {
        assert_eq!(ask(&app, Method::GET, path).await, (name.into(), false));
        assert!(hit(&app, path).await);
    }
    ask(&app, Method::POST, "/b/other").await;
    assert!(hit(&app, "/b/items").await, "it was not found");
    ask(&app, Method::POST, "/b/items").await;
    assert!(!hit(&app, "/b/items").await);
    assert!(hit(&app, "/a/items").await);
}

// As in a gateway: what it sends to a service still has what came with the request it answers.
#[tokio::test]
async fn the_uri_of_another_request_is_not_looked_at() {
    let cache = cache(memory()).await;
    let upstream = tower::service_fn(async |_: Request<Body>| {
        Ok::<_, buttress::Error<std::convert::Infallible>>(http::Response::new(Body::empty()))
    });
    let upstream = tower::Layer::layer(&cache.http_layer(), upstream);
    let send = async |method: Method, came_as: Option<&'static str>| {
        let mut req = Request::builder().method(method).uri("http://stock/items");
        if let Some(uri) = came_as {
            req = req.extension(OriginalUri(uri.parse().unwrap()));
        }
        let req = req.body(Body::empty()).unwrap();
        let response = upstream.clone().oneshot(req).await.unwrap();
        let said = response.headers().get("cache-status").unwrap();
        said.to_str().unwrap().contains("; hit")
    };
    assert!(!send(Method::GET, Some("/shop/items")).await);
    for came_as in [
        None,
        Some("/shop/items"),
        Some("/v2/items"),
        Some("http://shop/items"),
    ] {
        assert!(send(Method::GET, came_as).await);
    }
    send(Method::POST, None).await;
    assert!(!send(Method::GET, Some("/shop/items")).await);
}

/// What another router than axum's, or another axum, leaves.
#[derive(Clone)]
struct Whole(http::Uri);

impl std::ops::Deref for Whole {
    type Target = http::Uri;
    fn deref(&self) -> &http::Uri {
        &self.0
    }
}

#[tokio::test]
async fn another_routers_extension_is_read_where_it_is_named() {
    let cache = cache(memory()).await;
    let layer = cache.http_layer().uri_from_extension::<Whole>();
    let service = tower::Layer::layer(
        &layer,
        tower::service_fn(async |req: Request<Body>| {
            let whole = req.extensions().get::<Whole>().unwrap().path().to_owned();
            let response = http::Response::new(Body::from(whole));
            Ok::<_, buttress::Error<std::convert::Infallible>>(response)
        }),
    );
    let send = async |method: Method, whole: &'static str| {
        let req = Request::builder().method(method).uri("/items");
        let req = req.extension(Whole(whole.parse().unwrap()));
        let req = req.body(Body::empty()).unwrap();
        let response = service.clone().oneshot(req).await.unwrap();
        let said = response.headers().get("cache-status").unwrap();
        let hit = said.to_str().unwrap().contains("; hit");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, whole);
        hit
    };
    for hit in [false, true] {
        assert_eq!(send(Method::GET, "/a/items").await, hit);
        assert_eq!(send(Method::GET, "/b/items").await, hit);
    }
    send(Method::POST, "/a/items").await;
    assert!(!send(Method::GET, "/a/items").await);
    assert!(send(Method::GET, "/b/items").await);
}

// Whatever is rewritten within a router, nobody gets what another URI was answered with.
#[tokio::test]
async fn a_path_that_is_rewritten_is_not_mixed_up_with_others() {
    let cache = cache(memory()).await;
    let service = tower::service_fn(async |req: Request<Body>| {
        let original = req.extensions().get::<OriginalUri>().unwrap();
        let response = http::Response::new(Body::from(format!("{} of {}", req.uri(), original.0)));
        Ok::<_, buttress::Error<std::convert::Infallible>>(response)
    });
    let service = tower::Layer::layer(&cache.http_layer(), service);
    let paths = ["/items", "/a/items", "/b/items", "/tenants/1/items"];
    for kept in [false, true] {
        for (seen, original) in paths.iter().flat_map(|a| paths.iter().map(move |b| (a, b))) {
            let req = Request::get(*seen).extension(OriginalUri(original.parse().unwrap()));
            let req = req.body(Body::empty()).unwrap();
            let response = service.clone().oneshot(req).await.unwrap();
            let said = response.headers().get("cache-status").unwrap();
            assert_eq!(said.to_str().unwrap().contains("; hit"), kept);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("{seen} of {original}"));
        }
    }
}
