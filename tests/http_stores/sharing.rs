//! Whether a response may be stored and used again, and whether callers who wait for it together
//! may share it, is one decision (RFC 9111, 3 and 5.2.2.4).

use crate::{servers::Redis, stores::*};
use axum::body::Body;
use buttress::{
    Error,
    cache::{Cache, Store},
    http::StoredResponse,
};
use futures::{future::join_all, stream};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tower::{Layer, ServiceExt, service_fn};

/// A status, and the fields that matter.
type Case = (u16, &'static [(&'static str, &'static str)]);

const FAR: &str = "Fri, 01 Jan 2100 00:00:00 GMT";
const PAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BODY_LIMIT: usize = 1_000;

/// They may be used again without asking the service.
const REUSED: &[Case] = &[
    (200, &[]),
    (200, &[("cache-control", "max-age=60")]),
    (200, &[("cache-control", "max-age=0, s-maxage=60")]),
    (
        200,
        &[("cache-control", "max-age=0, stale-while-revalidate=60")],
    ),
    (200, &[("expires", FAR)]),
    (200, &[("vary", "accept")]),
    (200, &[("x-body", "chunks")]),
    (301, &[]),
    (302, &[("cache-control", "max-age=60")]),
    (307, &[("cache-control", "s-maxage=60")]),
    (404, &[]),
    (410, &[]),
];

/// They may not.
const NOT_REUSED: &[Case] = &[
    (200, &[("cache-control", "no-store")]),
    (200, &[("cache-control", "private")]),
    (200, &[("cache-control", "max-age=60, private=\"x-user\"")]),
    (200, &[("cache-control", "no-cache")]),
    (
        200,
        &[("cache-control", "max-age=60, no-cache=\"set-cookie\"")],
    ),
    (200, &[("cache-control", "max-age=0")]),
    (200, &[("cache-control", "max-age=0, must-revalidate")]),
    (200, &[("cache-control", "max-age=0, stale-if-error=600")]),
    (200, &[("cache-control", "s-maxage=0")]),
    (200, &[("cache-control", "max-age=60, s-maxage=0")]),
    (200, &[("cache-control", "max-age=60"), ("age", "60")]),
    (200, &[("cache-control", "max-age=soon")]),
    (200, &[("expires", PAST)]),
    (200, &[("expires", "0")]),
    (200, &[("set-cookie", "a=b")]),
    (
        200,
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
    ),
    (200, &[("vary", "*")]),
    (200, &[("vary", "accept-language")]),
    (200, &[("content-type", "text/event-stream")]),
    (200, &[("x-body", "long")]),
    (200, &[("x-body", "long chunks")]),
    (200, &[("cache-control", "no-cache"), ("x-body", "chunks")]),
    (201, &[]),
    (206, &[("cache-control", "max-age=60")]),
    (302, &[]),
    (302, &[("cache-control", "max-age=0")]),
    (303, &[]),
    (307, &[]),
    (400, &[]),
    (401, &[]),
    (403, &[]),
    (404, &[("cache-control", "no-cache")]),
    (405, &[]),
    (429, &[]),
    (429, &[("cache-control", "max-age=60")]),
    (500, &[]),
    (500, &[("cache-control", "max-age=60")]),
    (502, &[("cache-control", "no-store")]),
    (503, &[("retry-after", "1")]),
    (504, &[]),
];

/// Answers `/<n>` with the case of that number, and a token that it gives to nobody else.
#[derive(Clone, Default)]
struct Origin {
    tokens: Arc<AtomicU32>,
    /// The status of everything, if it is not 0.
    broken: Arc<AtomicU16>,
}

impl Origin {
    async fn answer(self, path: String) -> Response<Body> {
        let token = self.tokens.fetch_add(1, SeqCst).to_string();
        // So that all have asked before the first is answered.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let case: usize = path[1..].parse().unwrap();
        let (status, fields) = REUSED.iter().chain(NOT_REUSED).nth(case).unwrap();
        let (status, fields) = match self.broken.load(SeqCst) {
            0 => (*status, *fields),
            broken => (broken, &[][..]),
        };
        let body = fields.iter().find(|(name, _)| *name == "x-body");
        let chunks = |more: usize| {
            let first = [token.clone()].into_iter();
            let chunks = first.chain((0..more).map(|_| "-".repeat(99)));
            Body::from_stream(stream::iter(chunks.map(Ok::<_, Infallible>)))
        };
        let mut response = Response::new(match body.map(|(_, body)| *body) {
            Some("long") => Body::from(token.clone() + &"-".repeat(2 * BODY_LIMIT)),
            Some("long chunks") => chunks(BODY_LIMIT / 50),
            Some(_) => chunks(3),
            None => Body::from(token.clone()),
        });
        *response.status_mut() = status.try_into().unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            response.headers_mut().append(*name, value);
        }
        response
    }
}

/// What a caller sees: the status, whose answer it is, and `Cache-Status`.
type Seen = (u16, String, String);

async fn get<St: Store<StoredResponse>>(
    cache: &Cache<StoredResponse, St>,
    origin: &Origin,
    case: usize,
) -> Seen {
    let origin = origin.clone();
    let service = service_fn(move |req: Request<Body>| {
        let answer = origin.clone().answer(req.uri().path().to_owned());
        async move { Ok::<_, Error<Infallible>>(answer.await) }
    });
    let layer = cache
        .http_layer()
        .vary([header::ACCEPT])
        .body_limit(BODY_LIMIT);
    let req = Request::get(format!("/{case}")).header(header::HOST, "shop");
    let req = req.body(Body::empty()).unwrap();
    let response = layer.layer(service).oneshot(req).await.unwrap();
    let status = response.status().as_u16();
    let said = response.headers().get("cache-status").unwrap();
    let said = said.to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let token = String::from_utf8(body.to_vec()).unwrap();
    (status, token.trim_end_matches('-').to_owned(), said)
}

/// How many different answers ten callers get who ask for it together.
async fn tokens<St: Store<StoredResponse>>(
    cache: &Cache<StoredResponse, St>,
    origin: &Origin,
    case: usize,
) -> usize {
    let all = join_all((0..10).map(|_| get(cache, origin, case))).await;
    let tokens: HashSet<_> = all.into_iter().map(|(_, token, _)| token).collect();
    tokens.len()
}

async fn one_decision<St: Store<StoredResponse>>(cache: Cache<StoredResponse, St>) {
    let origin = Origin::default();
    for (case, of) in REUSED.iter().chain(NOT_REUSED).enumerate() {
        let reusable = case < REUSED.len();
        let tokens = tokens(&cache, &origin, case).await;
        let (status, _, said) = get(&cache, &origin, case).await;
        // Those who asked after the load began share a second one, if it was not stored by then.
        let (shared, reused) = (tokens <= 2, said.contains("; hit"));
        assert_eq!(status, of.0, "{of:?}");
        assert_eq!(
            (shared, reused),
            (reusable, reusable),
            "{of:?}: {tokens}, {said}"
        );
        if !reusable {
            assert_eq!(tokens, 10, "{of:?}");
        }
    }
    assert_eq!(cache.snapshot().in_flight, 0);
}

#[tokio::test]
async fn what_memory_may_not_use_again_is_not_shared() {
    one_decision(cache(memory()).await).await;
}

#[tokio::test]
async fn what_redis_may_not_use_again_is_not_shared() {
    let redis = Redis::start().unwrap();
    one_decision(cache(shared(&redis)).await).await;
}

#[tokio::test]
async fn what_memory_over_redis_may_not_use_again_is_not_shared() {
    let redis = Redis::start().unwrap();
    one_decision(listening(&redis).await).await;
}

/// What is good for nothing but to be better than an error is still that, for a whole crowd.
async fn better_than_an_error<St: Store<StoredResponse>>(cache: Cache<StoredResponse, St>) {
    let origin = Origin::default();
    let is = |case: &&Case| {
        case.1
            .iter()
            .any(|(_, value)| value.contains("stale-if-error"))
    };
    let case = REUSED.len() + NOT_REUSED.iter().position(|case| is(&case)).unwrap();
    assert_eq!(tokens(&cache, &origin, case).await, 10);
    for broken in [500, 503, 429] {
        origin.broken.store(broken, SeqCst);
        for (status, _, said) in join_all((0..10).map(|_| get(&cache, &origin, case))).await {
            assert_eq!(status, 200, "{said}");
            assert!(said.contains("detail=sie"), "{said}");
        }
    }
    // A source that is gone is asked by one call now and then, and not by each.
    let before = origin.tokens.load(SeqCst);
    for _ in 0..20 {
        assert_eq!(get(&cache, &origin, case).await.0, 200);
    }
    let asked = origin.tokens.load(SeqCst) - before;
    assert!(asked <= 10, "{asked}");
}

#[tokio::test]
async fn what_memory_may_not_use_again_is_better_than_an_error() {
    better_than_an_error(cache(memory()).await).await;
}

#[tokio::test]
async fn what_redis_may_not_use_again_is_better_than_an_error() {
    let redis = Redis::start().unwrap();
    better_than_an_error(cache(shared(&redis)).await).await;
}
