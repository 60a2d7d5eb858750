//! What tells requests apart.

use super::support::*;
use axum::{body::Body, extract::Request, response::IntoResponse};
use buttress::{cache::Cache, http::StoredResponse};
use http::header;
use reqwest::Method;
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn a_response_may_vary_by_what_is_in_the_key() {
    let layer = |cache: Cache<StoredResponse>| {
        let layer = cache.http_layer().vary([header::ACCEPT_LANGUAGE]);
        layer.ignore([header::COOKIE])
    };
    let served = Served::new(layer).await;
    let ask = async |language| {
        let fields = [("accept-language", language), ("cookie", "a=b")];
        served.send(Method::GET, "/vary", &fields).await.1
    };
    assert_eq!(
        (ask("de").await, ask("en").await),
        ("/vary 1".into(), "/vary 2".into())
    );
    assert_eq!(
        (ask("de").await, ask("en").await),
        ("/vary 1".into(), "/vary 2".into())
    );
}

#[tokio::test]
async fn no_host_can_answer_for_another_ones_path() {
    let served = Served::plain().await;
    let ask = async |method, host, path| served.send(method, path, &[("host", host)]).await;
    for host in ["shop/a", "shop/a?x="] {
        assert!(!ask(Method::GET, host, "/b").await.2.contains("hit"));
    }
    for path in ["/a/b", "/a?x=/b"] {
        let (_, text, said, _) = ask(Method::GET, "shop", path).await;
        assert!(text.starts_with(path) && !said.contains("hit"), "{said}");
    }
    ask(Method::POST, "shop/a", "/b").await;
    assert!(ask(Method::GET, "shop", "/a/b").await.2.contains("hit"));
    // It is the same host in any case.
    assert!(ask(Method::GET, "Shop", "/a/b").await.2.contains("hit"));
    ask(Method::POST, "SHOP", "/a/b").await;
    assert!(!ask(Method::GET, "shop", "/a/b").await.2.contains("hit"));
}

#[tokio::test]
async fn a_request_that_names_two_hosts_does_not_answer_for_one_of_them() {
    let cache = Cache::builder("pages").build().unwrap();
    let service = service_fn(async |req: Request| {
        let host = req.headers().get(header::HOST).cloned();
        Ok::<_, buttress::Error<Infallible>>(([("x-links-to", host.unwrap())], "").into_response())
    });
    let cached = cache.http_layer().layer(service);
    let links_to = async |uri, host| {
        let req = Request::builder().uri(uri).header(header::HOST, host);
        let req = req.body(Body::empty()).unwrap();
        let answer = cached.clone().oneshot(req).await.unwrap();
        answer.headers().get("x-links-to").unwrap().clone()
    };
    assert_eq!(links_to("http://shop/", "evil").await, "evil");
    assert_eq!(links_to("/", "shop").await, "shop");
    assert_eq!(links_to("http://shop/", "shop").await, "shop");
    // That says which scheme it is, and the one before does not.
    assert_eq!(cache.snapshot().fresh_total, 0);
    assert_eq!(links_to("http://shop/", "shop").await, "shop");
    assert_eq!(cache.snapshot().fresh_total, 1);
}
