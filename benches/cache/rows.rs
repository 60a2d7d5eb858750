//! Hits.

use buttress::{
    Error,
    cache::{Cache, Freshness, MemoryStore},
    http::StoredResponse,
};
use buttress_benches::row::{self, Answer, Bare, Keys, Row};
use bytes::Bytes;
use http_body_util::Full;
use std::{
    convert::Infallible,
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};

/// How many keys each thread of a `.keys` row has.
const EACH: u64 = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

type Failure = Error<Infallible>;

pub(crate) fn rows(runtime: &Runtime) -> Vec<Row> {
    let clock = Row::new("clock", || {
        || {
            black_box(tokio::time::Instant::now());
            Answer::Right
        }
    });
    let mut rows = vec![clock, Row::service("bare", Bare, Result::is_ok)];
    rows.extend(runtime.block_on(ours()));
    rows.extend(runtime.block_on(peers()));
    rows
}

/// How long an answer is; one that only a load would give is shorter. Looking at no more than that
/// measures the hit, and not what is done with it, as with the peers.
const LENGTH: usize = 128;

fn value() -> Arc<[u64]> {
    vec![7; LENGTH].into()
}

fn loaded() -> Arc<[u64]> {
    Arc::new([])
}

fn cache<V: Clone + Send + Sync + 'static>() -> Cache<V> {
    let store = MemoryStore::entries(10_000).expect("a number of entries");
    let cache = Cache::builder("items").freshness(Freshness::fresh(DAY));
    cache.store(store).build().expect("valid terms")
}

async fn fill<V: Clone + Send + Sync + 'static>(cache: &Cache<V>, value: impl Fn() -> V) {
    for key in 0..2 * EACH {
        let value = value();
        let load = move || async move { Ok::<_, Failure>(value) };
        cache
            .run(&key.to_string(), load)
            .await
            .expect("a load that succeeds");
    }
}

async fn ours() -> Vec<Row> {
    let shared = cache::<Arc<[u64]>>();
    fill(&shared, value).await;
    let loads = service_fn(|_: u64| async { Ok::<_, Failure>(loaded()) });
    let service = shared.layer(|key: &u64| Some(*key)).layer(loads);
    let hit: fn(&Result<Arc<[u64]>, Failure>) -> bool =
        |answer| answer.as_ref().is_ok_and(|value| value.len() == LENGTH);

    let copied = cache::<String>();
    fill(&copied, || "x".repeat(1_024)).await;
    let loads = service_fn(|_: u64| async { Ok::<_, Failure>(String::new()) });
    let copies = copied.layer(|key: &u64| Some(*key)).layer(loads);

    let run = shared.clone();
    vec![
        same("buttress.cache.hit", service.clone(), hit),
        keys("buttress.cache.hit.keys", service, hit),
        same("buttress.cache.hit.copied", copies, |answer| {
            answer.as_ref().is_ok_and(|text| !text.is_empty())
        }),
        Row::new("buttress.cache.run", move || {
            let cache = run.clone();
            move || {
                let load = || async { Ok::<_, Failure>(loaded()) };
                row::once(cache.run("7", load), |answer| {
                    answer.as_ref().is_ok_and(|cached| cached.status.hit())
                })
            }
        }),
        http().await,
    ]
}

/// A response of a kilobyte and five fields.
async fn http() -> Row {
    let store = MemoryStore::weighed(1 << 24, StoredResponse::weight).expect("a weight");
    let cache = Cache::builder("pages").freshness(Freshness::fresh(DAY));
    let cache = cache.store(store).build().expect("valid terms");
    let calls = Arc::new(AtomicU64::new(0));
    let page = service_fn(move |_: http::Request<Full<Bytes>>| {
        let calls = calls.fetch_add(1, Relaxed);
        async move {
            let mut response = http::Response::builder().status(if calls == 0 { 200 } else { 500 });
            for name in ["content-type", "etag", "x-a", "x-b", "x-c"] {
                response = response.header(name, "value");
            }
            let body = Full::new(Bytes::from_static(&[b'x'; 1_024]));
            Ok::<_, Failure>(response.body(body).expect("a response"))
        }
    });
    let request = || {
        let mut request = http::Request::new(Full::<Bytes>::default());
        *request.uri_mut() = http::Uri::from_static("/items?page=7");
        request
    };
    let service = cache.http_layer().layer(page);
    let first = service.clone().oneshot(request()).await;
    drop(first.expect("a response"));
    let service = Mutex::new(service);
    Row::new("buttress.cache.http", move || {
        let mut service = service.lock().unwrap().clone();
        move || {
            row::call(&mut service, request(), |answer| {
                answer
                    .as_ref()
                    .is_ok_and(|response| response.status() == 200)
            })
        }
    })
}

/// All threads ask for the same key.
fn same<S>(name: &'static str, service: S, right: fn(&Result<S::Response, S::Error>) -> bool) -> Row
where
    S: Service<u64> + Clone + Send + 'static,
{
    let service = Mutex::new(service);
    Row::new(name, move || {
        let mut service = service.lock().unwrap().clone();
        move || row::call(&mut service, 7, right)
    })
}

/// Each thread has keys of its own.
fn keys<S>(name: &'static str, service: S, right: fn(&Result<S::Response, S::Error>) -> bool) -> Row
where
    S: Service<u64> + Clone + Send + 'static,
{
    let (service, threads) = (Mutex::new(service), AtomicU64::new(0));
    Row::new(name, move || {
        let mut service = service.lock().unwrap().clone();
        let first = threads.fetch_add(1, Relaxed) % 2 * EACH;
        let mut keys = Keys::default();
        move || row::call(&mut service, first + keys.draw() % EACH, right)
    })
}

/// The caches themselves, without a service, a time or a key to write.
async fn peers() -> Vec<Row> {
    let quick = Arc::new(quick_cache::sync::Cache::<u64, Arc<[u64]>>::new(10_000));
    let moka = moka::sync::Cache::<u64, Arc<[u64]>>::builder()
        .max_capacity(10_000)
        .time_to_live(DAY)
        .build();
    for key in 0..2 * EACH {
        quick.insert(key, value());
        moka.insert(key, value());
    }
    moka.run_pending_tasks();
    let (quick_keys, moka_keys) = (quick.clone(), moka.clone());
    let layer = tower_resilience::cache::CacheLayer::builder()
        .max_size(10_000)
        .ttl(DAY)
        .key_extractor(|key: &u64| *key)
        .build()
        .expect("valid terms");
    let loads = service_fn(|_: u64| async { Ok::<_, Failure>(value()) });
    let mut cached = layer.layer(loads);
    for key in 0..2 * EACH {
        let service = cached.ready().await.expect("a service that is ready");
        drop(service.call(key).await.expect("a load that succeeds"));
    }
    let hit = |answer: &Result<Arc<[u64]>, _>| answer.is_ok();
    vec![
        raw("quick_cache", move |key| quick.get(&key).is_some(), false),
        raw(
            "quick_cache.keys",
            move |key| quick_keys.get(&key).is_some(),
            true,
        ),
        raw("moka", move |key| moka.get(&key).is_some(), false),
        raw("moka.keys", move |key| moka_keys.get(&key).is_some(), true),
        same("tower_resilience.cache", cached.clone(), hit),
        keys("tower_resilience.cache.keys", cached, hit),
    ]
}

fn raw(
    name: &'static str,
    get: impl Fn(u64) -> bool + Clone + Send + Sync + 'static,
    own_keys: bool,
) -> Row {
    let threads = AtomicU64::new(0);
    Row::new(name, move || {
        let get = get.clone();
        let first = threads.fetch_add(1, Relaxed) % 2 * EACH;
        let mut keys = Keys::default();
        move || {
            let key = if own_keys {
                first + keys.draw() % EACH
            } else {
                7
            };
            get(black_box(key)).into()
        }
    })
}
