//! Which requests are looked up, and which responses are kept.

use super::support::*;
use reqwest::Method;

#[tokio::test]
async fn what_was_answered_once_is_answered_again_and_says_how_old_it_is() {
    let served = Served::plain().await;
    let (status, text, said, fields) = served.get("/a?b=1").await;
    assert_eq!(
        (status, &*text, &*said),
        (200, "/a?b=1 1", "pages; fwd=uri-miss; stored")
    );
    assert!(!fields.contains_key("age"));
    let (status, again, said, mut fields_again) = served.get("/a?b=1").await;
    assert_eq!((status, again), (200, text));
    assert!(said.starts_with("pages; hit; ttl="), "{said}");
    assert_eq!(fields_again.remove("age").unwrap(), "0");
    for name in ["content-type", "content-length", "date"] {
        // The date is added by the server, at the edge.
        assert!(
            fields_again.contains_key(name) && fields.contains_key(name),
            "{name}"
        );
    }
    assert_eq!(served.get("/a?b=2").await.1, "/a?b=2 2");
    assert_eq!(served.origin.calls(), 2);
}

#[tokio::test]
async fn a_hundred_at_once_are_one_call() {
    let served = Served::plain().await;
    let all = futures::future::join_all((0..100).map(|_| served.get("/crowd"))).await;
    assert!(
        all.iter()
            .all(|(status, text, ..)| (*status, &**text) == (200, "/crowd 1"))
    );
    assert_eq!(
        (served.origin.calls(), served.snapshot().loads_total),
        (1, 1)
    );
}

#[tokio::test]
async fn what_is_not_for_a_cache_passes_by() {
    let served = Served::plain().await;
    for fields in [
        ("authorization", "Basic x"),
        ("cookie", "a=b"),
        ("range", "bytes=0-1"),
        ("cache-control", "no-store"),
    ] {
        let before = served.origin.calls();
        for _ in 0..2 {
            let (.., said, _) = served.send(Method::GET, "/", &[fields]).await;
            assert_eq!(said, "pages; fwd=bypass", "{fields:?}");
        }
        assert_eq!(served.origin.calls(), before + 2);
    }
    // Reloading does not get past it.
    served.get("/").await;
    let (.., said, _) = served
        .send(Method::GET, "/", &[("cache-control", "no-cache")])
        .await;
    assert!(said.contains("; hit"), "{said}");
    let (status, text, said, _) = served.send(Method::HEAD, "/", &[]).await;
    assert_eq!((status, &*text, &*said), (200, "", "pages; fwd=bypass"));
}

#[tokio::test]
async fn responses_that_must_not_be_kept_are_not() {
    let served = Served::plain().await;
    for path in ["/private", "/cookie", "/vary"] {
        for _ in 0..2 {
            let before = served.origin.calls();
            let (status, _, said, _) = served.get(path).await;
            assert_eq!((status, &*said), (200, "pages; fwd=uri-miss"), "{path}");
            assert_eq!(served.origin.calls(), before + 1);
        }
        // And nobody gets another one's.
        let before = served.origin.calls();
        let all = futures::future::join_all((0..20).map(|_| served.get(path))).await;
        let texts: std::collections::HashSet<_> = all.into_iter().map(|answer| answer.1).collect();
        assert_eq!(texts.len() as u32, served.origin.calls() - before);
    }
}

#[tokio::test]
async fn a_conditional_request_is_answered_in_full_for_all() {
    let served = Served::plain().await;
    let fields = [("if-none-match", "\"x\"")];
    let (status, text, ..) = served.send(Method::GET, "/etag", &fields).await;
    assert_eq!((status, &*text), (200, "/etag 1"));
    assert_eq!(served.get("/etag").await.1, "/etag 1");
}

#[tokio::test]
async fn long_responses_pass_through_and_streams_are_whole() {
    let served = Served::plain().await;
    for (path, length) in [("/large", 100_000), ("/large-stream", 100_000)] {
        for _ in 0..2 {
            let (status, text, said, _) = served.get(path).await;
            assert_eq!(
                (status, text.len(), &*said),
                (200, length, "pages; fwd=uri-miss")
            );
        }
    }
    let (_, first, said, _) = served.get("/stream").await;
    assert_eq!((first.len(), &*said), (200, "pages; fwd=uri-miss; stored"));
    let (_, second, said, _) = served.get("/stream").await;
    assert!(said.contains("hit"));
    assert_eq!(first, second);
    let url = format!("http://{}/breaks", served.address);
    let broken = async || served.client.get(&url).send().await?.text().await;
    assert!(broken().await.is_err(), "it breaks for the client, too");
    assert!(served.snapshot().load_failures_total > 0);
}

#[tokio::test]
async fn what_is_between_two_neighbours_is_not_kept() {
    let served = Served::plain().await;
    for kept in [false, true] {
        let (.., said, fields) = served.get("/hop").await;
        assert_eq!(said.contains("hit"), kept);
        for name in ["keep-alive", "x-hop", "x-other", "proxy-connection"] {
            assert!(!fields.contains_key(name), "{name}");
        }
        assert!(fields.contains_key("x-end"));
    }
}
