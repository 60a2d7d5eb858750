//! The HTTP layer on two axum instances that share what they answered.

use crate::{servers::Redis, shared::support::*, support::*};
use axum::{Router, extract::Request, response::IntoResponse};
use buttress::{
    cache::{Binary, Cache, Codec, Json, KeyRef, Store},
    http::{Http, RespondLayer, StoredResponse},
    redis::{RedisStore, Tiered},
};
use http::{Method, StatusCode, header};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::net::TcpListener;

/// One of several, behind a proxy that hands on the `Host` which the client asked for.
struct Site<St: Store<StoredResponse>> {
    name: &'static str,
    address: SocketAddr,
    broken: Arc<AtomicBool>,
    cache: Cache<StoredResponse, St>,
}

async fn site<St: Store<StoredResponse>>(name: &'static str, store: St) -> Site<St> {
    let cache = patient().store(store).build().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let origin = move |req: Request| {
        let breaks = Arc::clone(&breaks);
        async move {
            if breaks.load(SeqCst) {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            // Bytes that no text has, and a field of its own.
            let mut body = format!("{} of {name} ", req.uri()).into_bytes();
            body.extend([0, 255, 254]);
            ([("x-served-by", name)], body).into_response()
        }
    };
    let app = Router::new()
        .fallback(origin)
        .layer(RespondLayer::new(Http, cache.http_layer()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let nothing = KeyRef::new("").to_owned();
    let connected = async || cache.store().look(&nothing).await.is_ok();
    eventually("it is connected", connected).await;
    Site {
        name,
        address,
        broken,
        cache,
    }
}

/// Status, whose answer it is, and `Cache-Status`.
type Seen = (u16, String, String);

impl<St: Store<StoredResponse>> Site<St> {
    async fn send(&self, method: Method, path: &str) -> Seen {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("http://{}{path}", self.address));
        let response = request.header(header::HOST, "shop").send().await.unwrap();
        let field = |name: &str| {
            let value = response.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let (status, by, said) = (
            response.status().as_u16(),
            field("x-served-by"),
            field("cache-status"),
        );
        let body = response.bytes().await.unwrap();
        if status == 200 {
            let mut expected = format!("{path} of {by} ").into_bytes();
            expected.extend([0, 255, 254]);
            assert_eq!(body, expected);
        }
        (status, by, said)
    }

    async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path).await
    }
}

const STORED: &str = "items; fwd=uri-miss; stored";

async fn share<St: Store<StoredResponse>>(here: Site<St>, there: Site<St>, hears_later: bool) {
    let own = |site: &Site<St>| (200, site.name.to_owned(), STORED.to_owned());
    for path in ["/tasks", "/tasks?page=2", "/users"] {
        assert_eq!(here.get(path).await, own(&here));
        for site in [&here, &there] {
            let (status, by, said) = site.get(path).await;
            assert_eq!((status, &*by), (200, here.name));
            assert!(said.starts_with("items; hit; ttl="), "{said}");
        }
    }
    // A write on one: all queries of its path, for both, before it is answered.
    let (status, _, said) = there.send(Method::POST, "/tasks").await;
    assert_eq!((status, &*said), (200, "items; fwd=method"));
    if hears_later {
        let heard = async || here.get("/tasks?page=2").await.2 == STORED;
        eventually("the other has heard of it", heard).await;
    } else {
        assert_eq!(here.get("/tasks?page=2").await, own(&here));
    }
    assert_eq!(there.get("/tasks").await, own(&there));
    let (_, by, said) = here.get("/users").await;
    assert_eq!(by, here.name);
    assert!(said.contains("hit"), "another path: {said}");

    // What is not an answer is not shared.
    here.broken.store(true, SeqCst);
    assert_eq!(here.get("/new").await.0, 500);
    assert_eq!(there.get("/new").await, own(&there));
    assert_eq!(
        here.get("/new").await.0,
        200,
        "it has what the other loaded"
    );
    // A write that failed invalidates nothing.
    assert_eq!(here.send(Method::POST, "/new").await.0, 500);
    assert!(there.get("/new").await.2.contains("hit"));
    assert_eq!(here.cache.snapshot().invalidations_pending_total, 0);
}

fn coded<C: Codec<StoredResponse>>(redis: &Redis, codec: C) -> RedisStore<C> {
    let store = RedisStore::builder(redis.url()).namespace("app");
    store.codec(codec).connect().unwrap()
}

#[tokio::test]
async fn what_one_instance_stored_the_other_answers_and_a_write_on_one_is_seen_on_the_other() {
    let redis = Redis::start().unwrap();
    let (here, there) = (coded(&redis, Json), coded(&redis, Json));
    share(site("a", here).await, site("b", there).await, false).await;
}

#[tokio::test]
async fn the_same_with_the_fewest_bytes() {
    let redis = Redis::start().unwrap();
    let (here, there) = (coded(&redis, Binary), coded(&redis, Binary));
    share(site("a", here).await, site("b", there).await, false).await;
}

#[tokio::test]
async fn the_same_with_memory_on_both() {
    let redis = Redis::start().unwrap();
    let tiered = || {
        let store = Tiered::builder(coded(&redis, Binary)).heartbeat(10 * SECOND);
        store.build().unwrap()
    };
    let (here, there) = (site("a", tiered()).await, site("b", tiered()).await);
    for site in [&here, &there] {
        let listens = async || site.cache.store().listens();
        eventually("it listens", listens).await;
    }
    share(here, there, true).await;
}

// What another version of the application wrote.
#[tokio::test]
async fn bytes_that_are_no_response_are_a_miss_and_are_replaced() {
    let redis = Redis::start().unwrap();
    let here = site("a", coded(&redis, Json)).await;
    let there = site("b", coded(&redis, Binary)).await;
    assert_eq!(here.get("/").await.2, STORED);
    assert_eq!(there.get("/").await, (200, "b".into(), STORED.into()));
    assert!(there.get("/").await.2.contains("hit"));
}

#[test]
fn bytes_of_more_fields_than_a_response_can_have_are_no_response() {
    let fields = vec!["[\"a\",[]]"; 40_000].join(",");
    let bytes = format!("{{\"status\":200,\"headers\":[{fields}],\"body\":[]}}");
    let decoded: Result<StoredResponse, _> = Json.decode(bytes.as_bytes());
    assert!(decoded.is_err());
}
