//! Callers who cannot share a response ask side by side, and not one after the other.

use crate::{servers::Redis, stores::*};
use axum::body::Body;
use buttress::{
    Error,
    cache::{Cache, Store},
    http::StoredResponse,
};
use futures::future::join_all;
use http::{Request, Response, StatusCode, header};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn};

/// Answers what may not be shared, or what may, when it is let.
#[derive(Clone)]
struct Origin(Arc<State>);

struct State {
    status: u16,
    shareable: AtomicBool,
    calls: AtomicU32,
    gate: Semaphore,
    takes: Duration,
}

impl Origin {
    fn new(status: u16, takes: Duration, gate: usize) -> Self {
        Self(Arc::new(State {
            status,
            shareable: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            gate: Semaphore::new(gate),
            takes,
        }))
    }

    fn calls(&self) -> u32 {
        self.0.calls.load(SeqCst)
    }

    async fn answer(self) -> Response<Body> {
        self.0.calls.fetch_add(1, SeqCst);
        sleep(self.0.takes).await;
        self.0.gate.acquire().await.unwrap().forget();
        let mut response = Response::new(Body::empty());
        if !self.0.shareable.load(SeqCst) {
            *response.status_mut() = StatusCode::from_u16(self.0.status).unwrap();
            let value = "no-cache".parse().unwrap();
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        response
    }
}

/// The answer's status, and `Cache-Status`.
async fn get<St: Store<StoredResponse>>(
    cache: &Cache<StoredResponse, St>,
    origin: &Origin,
) -> (u16, String) {
    let origin = origin.clone();
    let service = service_fn(move |_: Request<Body>| {
        let answer = origin.clone().answer();
        async move { Ok::<_, Error<Infallible>>(answer.await) }
    });
    let layer = cache.http_layer();
    let response = layer.layer(service).oneshot(Request::default()).await;
    let response = response.unwrap();
    let said = response.headers().get("cache-status").unwrap();
    (
        response.status().as_u16(),
        said.to_str().unwrap().to_owned(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_crowd_waits_for_one_load_and_its_own_at_most() {
    for (status, later) in [(200, 1), (302, 1), (500, 2)] {
        let cache = terms().store(memory()).build().unwrap();
        let origin = Origin::new(status, SECOND, 1_000);
        // From then on it is known that they cannot share, unless it was a failure.
        for seconds in [2, later] {
            let began = Instant::now();
            let all = join_all((0..100).map(|_| get(&cache, &origin))).await;
            assert!(all.iter().all(|(seen, _)| *seen == status));
            assert!(
                began.elapsed() < (seconds * SECOND).mul_f64(1.1),
                "{status}"
            );
        }
        assert_eq!(origin.calls(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_may_be_shared_again_ends_what_is_remembered() {
    let cache = terms().store(memory()).build().unwrap();
    let origin = Origin::new(401, SECOND, 1_000);
    assert_eq!(get(&cache, &origin).await.0, 401);
    origin.0.shareable.store(true, SeqCst);
    // It is asked without a lease, and the next with one.
    assert!(!get(&cache, &origin).await.1.contains("stored"));
    assert!(get(&cache, &origin).await.1.contains("stored"));
    assert!(get(&cache, &origin).await.1.contains("; hit"));
    assert_eq!(origin.calls(), 3);
}

async fn instances_do_not_queue<St: Store<StoredResponse>>(
    caches: Vec<Cache<StoredResponse, St>>,
    status: u16,
) {
    let origin = Origin::new(status, Duration::ZERO, 0);
    let ask = |cache: &Cache<StoredResponse, St>| {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { get(&cache, &origin).await.0 })
    };
    let mut calls = vec![ask(&caches[0])];
    eventually("the first asks", async || origin.calls() == 1).await;
    calls.extend(caches[1..].iter().map(ask));
    let waits = |cache: &Cache<StoredResponse, St>| cache.snapshot().in_flight == 1;
    eventually("the others wait", async || caches.iter().all(waits)).await;
    // The first has its answer, and one of the others the lease: the rest need not wait for it.
    origin.0.gate.add_permits(1);
    let all = async || origin.calls() as usize == caches.len();
    eventually("all ask", all).await;
    origin.0.gate.add_permits(caches.len());
    for call in calls {
        assert_eq!(call.await.unwrap(), status);
    }
}

#[tokio::test]
async fn instances_that_share_redis_do_not_ask_one_after_the_other() {
    for status in [200, 500] {
        let redis = Redis::start().unwrap();
        let mut caches = Vec::new();
        for _ in 0..5 {
            caches.push(cache(shared(&redis)).await);
        }
        instances_do_not_queue(caches, status).await;
    }
}

#[tokio::test]
async fn instances_with_memory_over_redis_do_not_ask_one_after_the_other() {
    let redis = Redis::start().unwrap();
    let mut caches = Vec::new();
    for _ in 0..5 {
        caches.push(listening(&redis).await);
    }
    instances_do_not_queue(caches, 302).await;
}
