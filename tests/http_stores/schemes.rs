//! Answers to http and to https, which need not be the same.

use crate::{servers::Redis, stores::*};
use axum::body::Body;
use buttress::{
    Error,
    cache::{Cache, Store},
    http::StoredResponse,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is sent besides the method: the URI, and fields.
type Sent<'a> = (&'a str, &'a [(&'static str, &'a str)]);

/// Sends everybody who did not come by https there, as applications behind a proxy do.
async fn redirect(req: Request<Body>) -> Result<Response<Body>, Error<Infallible>> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let said = req.headers().get(PROTO).map(text);
    let forwarded = req.headers().get(header::FORWARDED).map(text);
    let https = match (said, forwarded, req.uri().scheme_str()) {
        (Some(proto), ..) => proto == "https",
        (None, Some(forwarded), _) => forwarded.contains("proto=https"),
        (None, None, scheme) => scheme == Some("https"),
    };
    let mut response = Response::new(Body::empty());
    if !https {
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let location = HeaderValue::from_static("https://shop/");
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The status, and whether it was in the cache.
async fn send<St: Store<StoredResponse>>(
    cache: &Cache<StoredResponse, St>,
    method: Method,
    (uri, fields): Sent<'_>,
) -> (u16, bool) {
    let mut req = Request::builder().method(method).uri(uri);
    req = req.header(header::HOST, "shop");
    for (name, value) in fields {
        req = req.header(*name, *value);
    }
    let service = cache.http_layer().layer(service_fn(redirect));
    let response = service.oneshot(req.body(Body::empty()).unwrap()).await;
    let response = response.unwrap();
    let said = response.headers().get("cache-status").unwrap();
    let hit = said.to_str().unwrap().contains("; hit");
    (response.status().as_u16(), hit)
}

const SENT: [(u16, Sent<'static>); 11] = [
    (301, ("/", &[])),
    (301, ("/", &[("x-forwarded-proto", "http")])),
    (200, ("/", &[("x-forwarded-proto", "https")])),
    (301, ("/", &[("x-forwarded-proto", "https, http")])),
    (301, ("/", &[("x-forwarded-proto", "HTTPS")])),
    (301, ("/", &[("forwarded", "for=\"[::1]\";proto=http")])),
    (200, ("/", &[("forwarded", "for=\"[::1]\";proto=https")])),
    (301, ("/", &[("forwarded", "for=\"a;proto:https\"")])),
    (301, ("http://shop/", &[])),
    (200, ("https://shop/", &[])),
    (200, ("http://shop/", &[("x-forwarded-proto", "https")])),
];

async fn kept_apart<St: Store<StoredResponse>>(cache: Cache<StoredResponse, St>) {
    let own = |sent| send(&cache, Method::GET, sent);
    for write in [None, Some(SENT[0].1), Some(SENT[2].1), Some(SENT[9].1)] {
        // A write by the one invalidates what was asked for by the other as well.
        if let Some(write) = write {
            send(&cache, Method::POST, write).await;
        }
        for (status, sent) in SENT.into_iter().chain(SENT.into_iter().rev()) {
            assert_eq!(own(sent).await.0, status, "{sent:?}");
        }
        for (_, sent) in SENT {
            assert!(own(sent).await.1, "{sent:?}");
        }
    }
}

#[tokio::test]
async fn schemes_are_kept_apart_in_memory() {
    kept_apart(cache(memory()).await).await;
}

#[tokio::test]
async fn schemes_are_kept_apart_in_redis() {
    let redis = Redis::start().unwrap();
    kept_apart(cache(shared(&redis)).await).await;
}

#[tokio::test]
async fn schemes_are_kept_apart_in_memory_over_redis() {
    let redis = Redis::start().unwrap();
    kept_apart(listening(&redis).await).await;
}

// Anybody can make them up.
#[tokio::test]
async fn however_many_schemes_are_told_few_answers_are_kept() {
    let cache = cache(memory()).await;
    let values = ["http", "https", "HTTPS", "wss", ""].map(str::to_owned);
    let values = values.into_iter().chain((0..100).map(|n| format!("x{n}")));
    let values: Vec<_> = values.collect();
    for first in &values {
        for last in &values {
            let list = format!("{first}, wss, {last}");
            let forwarded = format!("proto={first}, proto={last}");
            for fields in [
                [("x-forwarded-proto", &**first), ("via", "a")],
                [("x-forwarded-proto", &*list), ("via", "a")],
                [
                    ("x-forwarded-proto", &**first),
                    ("x-forwarded-proto", &**last),
                ],
                [("forwarded", &*forwarded), ("via", "a")],
            ] {
                send(&cache, Method::GET, ("/", &fields)).await;
            }
        }
    }
    assert!(cache.store().len() <= 40, "{}", cache.store().len());
}

#[tokio::test]
async fn a_field_that_is_ignored_keeps_nothing_apart() {
    let cache = cache(memory()).await;
    let layer = cache.http_layer().ignore([PROTO]);
    let service = layer.layer(service_fn(async |req: Request<Body>| {
        let told = HeaderMap::contains_key(req.headers(), PROTO);
        assert!(!told, "nor does the service see it");
        redirect(req).await
    }));
    for proto in ["http", "https"] {
        let req = Request::get("/").header(PROTO, proto).body(Body::empty());
        let response = service.clone().oneshot(req.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
    }
    assert_eq!(cache.store().len(), 1);
}
