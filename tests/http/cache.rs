//! The cache before an axum `Router`, over TCP.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use buttress::{
    cache::{Cache, Freshness, MemoryStore, Snapshot},
    http::{Http, RespondLayer, StoredResponse},
};
use futures::{StreamExt, poll, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::Method;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

const TERMS: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::from_secs(600),
};

/// Counts what reaches it, and answers as the path says.
#[derive(Clone, Default)]
struct Origin(Arc<(AtomicU32, AtomicU16)>);

impl Origin {
    fn calls(&self) -> u32 {
        self.0.0.load(SeqCst)
    }

    fn fail_with(&self, status: u16) {
        self.0.1.store(status, SeqCst);
    }
}

async fn origin(State(origin): State<Origin>, req: Request) -> Response {
    let call = origin.0.0.fetch_add(1, SeqCst) + 1;
    let failure = origin.0.1.load(SeqCst);
    if failure > 0 {
        return StatusCode::from_u16(failure).unwrap().into_response();
    }
    let text = format!("{} {call}", req.uri());
    let conditional = req.headers().contains_key(header::IF_NONE_MATCH);
    match req.uri().path() {
        _ if conditional => StatusCode::NOT_MODIFIED.into_response(),
        "/none" => StatusCode::NOT_FOUND.into_response(),
        "/private" => ([(header::CACHE_CONTROL, "private")], text).into_response(),
        "/cookie" => ([(header::SET_COOKIE, "a=b")], text).into_response(),
        "/vary" => ([(header::VARY, "accept-language")], text).into_response(),
        "/short" => (
            [(header::CACHE_CONTROL, "max-age=0, stale-if-error=9")],
            text,
        )
            .into_response(),
        "/hop" => {
            let fields = [
                ("connection", "X-Hop, keep-alive"),
                ("connection", "x-other"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("x-hop", "1"),
                ("x-other", "1"),
                ("x-end", "1"),
            ];
            let mut response = text.into_response();
            for (name, value) in fields {
                let value = HeaderValue::from_static(value);
                response.headers_mut().append(name, value);
            }
            response
        }
        "/broken-write" if req.method() != Method::GET => StatusCode::CONFLICT.into_response(),
        "/large" => vec![b'x'; 100_000].into_response(),
        "/stream" => {
            let chunks = stream::iter(0..50).map(|n| Ok::<_, Infallible>(format!("{n:04}")));
            Body::from_stream(chunks).into_response()
        }
        "/large-stream" => {
            let chunks =
                stream::iter(0..500).map(|n| Ok::<_, Infallible>(format!("{n:04}").repeat(50)));
            Body::from_stream(chunks).into_response()
        }
        "/breaks" => {
            let chunks = stream::iter([Ok("some"), Err(std::io::Error::other("gone"))]);
            Body::from_stream(chunks).into_response()
        }
        _ => text.into_response(),
    }
}

struct Served {
    address: SocketAddr,
    origin: Origin,
    cache: Cache<StoredResponse>,
    client: reqwest::Client,
}

/// What a test looks at: status, body, `Cache-Status`, and the other fields.
type Answer = (u16, String, String, HeaderMap);

impl Served {
    async fn new(
        layer: impl FnOnce(
            Cache<StoredResponse>,
        ) -> buttress::cache::CacheLayer<
            StoredResponse,
            MemoryStore<StoredResponse>,
            buttress::http::HttpAdapter,
        >,
    ) -> Self {
        let store = MemoryStore::weighed(1 << 20, StoredResponse::weight).unwrap();
        let cache = Cache::builder("pages").freshness(TERMS).jitter(0.0);
        let cache = cache.early_refresh(0.0).store(store).build().unwrap();
        let counted = Origin::default();
        let app = Router::new()
            .fallback(origin)
            .with_state(counted.clone())
            .layer(RespondLayer::new(Http, layer(cache.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            origin: counted,
            cache,
            client: reqwest::Client::new(),
        }
    }

    async fn plain() -> Self {
        Self::new(|cache| cache.http_layer().body_limit(50_000)).await
    }

    async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut req = self
            .client
            .request(method, format!("http://{}{path}", self.address));
        for (name, value) in fields {
            req = req.header(*name, *value);
        }
        let response = req.send().await.unwrap();
        let (status, fields) = (response.status().as_u16(), response.headers().clone());
        let said = fields.get_all("cache-status").iter();
        let said: Vec<_> = said.map(|value| value.to_str().unwrap()).collect();
        (
            status,
            response.text().await.unwrap_or_default(),
            said.join(", "),
            fields,
        )
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    fn snapshot(&self) -> Snapshot {
        self.cache.snapshot()
    }
}

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
async fn that_something_is_not_there_is_kept_for_a_shorter_time() {
    let served = Served::new(|cache| cache.http_layer().negative(Duration::from_millis(200))).await;
    assert_eq!(
        (served.get("/none").await.0, served.get("/none").await.0),
        (404, 404)
    );
    assert_eq!(served.origin.calls(), 1);
    while served.origin.calls() == 1 {
        assert_eq!(served.get("/none").await.0, 404);
    }
}

#[tokio::test]
async fn a_stale_response_is_better_than_a_server_error() {
    let served = Served::plain().await;
    assert_eq!(served.get("/short").await.2, "pages; fwd=uri-miss; stored");
    for status in [500, 502, 503, 504, 429] {
        served.origin.fail_with(status);
        let (status, text, said, _) = served.get("/short").await;
        assert_eq!((status, &*text), (200, "/short 1"));
        assert!(
            said.starts_with("pages; fwd=stale; ttl=") && said.ends_with("; detail=sie"),
            "{said}"
        );
    }
    // With nothing stale there is the error, and it is not kept.
    served.origin.fail_with(500);
    assert_eq!(served.get("/other").await.0, 500);
    served.origin.fail_with(0);
    assert_eq!(served.get("/other").await.0, 200);
}

#[tokio::test]
async fn a_write_invalidates_all_queries_of_its_path_before_it_is_answered() {
    let served = Served::plain().await;
    let paths = ["/tasks", "/tasks?page=2", "/tasks/7", "/broken-write"];
    for path in paths {
        served.get(path).await;
    }
    let (.., said, _) = served.send(Method::POST, "/tasks", &[]).await;
    assert_eq!(said, "pages; fwd=method");
    served.send(Method::PUT, "/broken-write", &[]).await;
    let mut hits = Vec::new();
    for path in paths {
        hits.push(served.get(path).await.2.contains("hit"));
    }
    assert_eq!(hits, [false, false, true, true]);
}

#[tokio::test]
async fn a_tag_says_what_a_write_invalidates() {
    let tag = |uri: &http::Uri| uri.path().split('/').nth(1).unwrap_or_default().to_owned();
    let served = Served::new(move |cache| cache.http_layer().tag(tag)).await;
    for path in ["/tasks?page=2", "/tasks/7", "/users"] {
        served.get(path).await;
    }
    served.send(Method::DELETE, "/tasks/7", &[]).await;
    assert!(!served.get("/tasks?page=2").await.2.contains("hit"));
    assert!(!served.get("/tasks/7").await.2.contains("hit"));
    assert!(served.get("/users").await.2.contains("hit"));
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
async fn a_write_that_may_have_been_done_invalidates() {
    let store = MemoryStore::weighed(1 << 20, StoredResponse::weight).unwrap();
    let cache = Cache::builder("pages").freshness(TERMS).store(store);
    let cache = cache.build().unwrap();
    let timeout = buttress::Timeout::new("tasks", Duration::from_millis(1));
    let service = service_fn(async |req: Request| match req.method() {
        &Method::GET => Ok::<_, buttress::Error<Infallible>>(Response::new(Body::from("x"))),
        // It is done, and answers never.
        _ => std::future::pending().await,
    });
    let timed = cache.http_layer().layer(timeout.layer().layer(service));
    let cached = cache.http_layer().layer(service);
    let request = |method| {
        let req = Request::builder().method(method).uri("/tasks");
        req.body(Body::empty()).unwrap()
    };
    let hit = async || {
        let answer = cached.clone().oneshot(request(Method::GET)).await.unwrap();
        let said = answer.headers().get("cache-status").unwrap();
        said.to_str().unwrap().contains("hit")
    };
    assert!(!hit().await && hit().await);
    // Its caller gives up.
    let mut write = Box::pin(cached.clone().oneshot(request(Method::POST)));
    assert!(poll!(&mut write).is_pending());
    assert!(hit().await, "nothing has happened so far");
    drop(write);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!hit().await && hit().await);
    // It takes too long.
    assert!(timed.oneshot(request(Method::POST)).await.is_err());
    assert!(!hit().await);
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

#[tokio::test]
async fn a_stale_response_is_better_than_a_server_error_for_those_who_load_alone_too() {
    let cache = Cache::builder("pages").build().unwrap();
    let answers = [
        (200, "max-age=0, stale-if-error=60"),
        // So everybody loads alone for a while.
        (200, "private"),
        (500, "no-store"),
    ];
    let answers = Arc::new(std::sync::Mutex::new(answers.into_iter()));
    let service = service_fn(move |_: Request| {
        let (status, said) = answers.lock().unwrap().next().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let answer = (status, [(header::CACHE_CONTROL, said)]).into_response();
        async move { Ok::<_, buttress::Error<Infallible>>(answer) }
    });
    let cached = cache.http_layer().layer(service);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = cached.clone().oneshot(Request::default()).await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200]);
    assert_eq!(cache.snapshot().if_error_total, 1);
}
