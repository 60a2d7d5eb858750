//! A write that was answered has dropped what was stored: no leader that goes away hands it on.

use crate::{servers::Redis, stores::*};
use axum::body::Body;
use buttress::{
    Error,
    cache::{Cache, CacheBuilder, Freshness, Store},
    http::StoredResponse,
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tower::{Layer, ServiceExt, service_fn};

const FRESH: Duration = Duration::from_millis(100);

/// Exact times, and stale soon.
fn soon_stale() -> CacheBuilder {
    terms().freshness(Freshness {
        fresh: FRESH,
        ..TERMS
    })
}

/// Answers `/tasks` with the number of the call, and anything else with an error; writes succeed.
#[derive(Clone, Default)]
struct Origin(Arc<State>);

struct State {
    calls: AtomicU32,
    /// What `/tasks` waits for, once it is held up.
    gate: Semaphore,
    held_up: AtomicBool,
    broken: AtomicBool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            calls: AtomicU32::new(0),
            gate: Semaphore::new(0),
            held_up: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }
}

impl Origin {
    fn calls(&self) -> u32 {
        self.0.calls.load(SeqCst)
    }

    async fn answer(self, req: Request<Body>) -> Response<Body> {
        let broken = || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        };
        if req.method() != Method::GET {
            return Response::new(Body::empty());
        }
        if req.uri().path() != "/tasks" {
            return broken();
        }
        let call = self.0.calls.fetch_add(1, SeqCst) + 1;
        if self.0.held_up.load(SeqCst) {
            self.0.gate.acquire().await.unwrap().forget();
        }
        match self.0.broken.load(SeqCst) {
            true => broken(),
            false => Response::new(Body::from(call.to_string())),
        }
    }
}

/// A response's status, body and `Cache-Status`.
type Seen = (u16, String, String);

/// A call of its own.
fn send<St: Store<StoredResponse>>(
    cache: &Cache<StoredResponse, St>,
    origin: &Origin,
    method: Method,
    path: &str,
) -> JoinHandle<Seen> {
    let origin = origin.clone();
    let service = service_fn(move |req: Request<Body>| {
        let answer = origin.clone().answer(req);
        async move { Ok::<_, Error<Infallible>>(answer.await) }
    });
    let service = cache.http_layer().layer(service);
    let req = Request::builder().method(method).uri(path);
    let req = req.header(header::HOST, "shop").body(Body::empty());
    tokio::spawn(async move {
        let response = service.oneshot(req.unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let said = response.headers()["cache-status"].to_str().unwrap();
        let said = said.to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), said)
    })
}

/// A leader knows of a stale response and asks the service; meanwhile the service is found to be
/// down, a write drops the response and is answered, and somebody asks again. Then the leader goes.
async fn is_not_handed_on<St: Store<StoredResponse>>(cache: Cache<StoredResponse, St>) {
    let origin = Origin::default();
    let get = |path: &str| send(&cache, &origin, Method::GET, path);
    assert_eq!(get("/tasks").await.unwrap().1, "1");
    tokio::time::sleep(FRESH + FRESH / 2).await;
    origin.0.held_up.store(true, SeqCst);
    let leader = get("/tasks");
    eventually("it loads", async || origin.calls() == 2).await;
    for broken in ["/1", "/2", "/3"] {
        assert_eq!(get(broken).await.unwrap().0, 500);
    }
    let (status, _, said) = send(&cache, &origin, Method::POST, "/tasks").await.unwrap();
    assert_eq!(
        (status, &*said),
        (200, "pages; fwd=method"),
        "it is acknowledged"
    );

    let after = get("/tasks");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!after.is_finished());
    leader.abort();
    // Nothing stale is there for the one who asked after the write, who therefore asks the service.
    eventually("the next one loads", async || origin.calls() == 3).await;
    origin.0.broken.store(true, SeqCst);
    origin.0.gate.add_permits(1);
    let (status, body, said) = after.await.unwrap();
    assert_eq!((status, &*body), (500, ""), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_a_write_dropped_from_memory_is_not_handed_on() {
    is_not_handed_on(cache_of(soon_stale(), memory()).await).await;
}

#[tokio::test]
async fn what_a_write_dropped_from_redis_is_not_handed_on() {
    let redis = Redis::start().unwrap();
    is_not_handed_on(cache_of(soon_stale(), shared(&redis)).await).await;
}

#[tokio::test]
async fn what_a_write_dropped_from_memory_over_redis_is_not_handed_on() {
    let redis = Redis::start().unwrap();
    let cache = cache_of(soon_stale(), tiered(&redis)).await;
    eventually("it listens", async || cache.store().listens()).await;
    is_not_handed_on(cache).await;
}
