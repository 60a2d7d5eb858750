//! A service behind a cache, and what its clients see.

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
use futures::{StreamExt, stream};
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

pub(crate) const TERMS: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::from_secs(600),
};

/// Counts what reaches it, and answers as the path says.
#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<(AtomicU32, AtomicU16)>);

impl Origin {
    pub(crate) fn calls(&self) -> u32 {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn fail_with(&self, status: u16) {
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

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
    cache: Cache<StoredResponse>,
    pub(crate) client: reqwest::Client,
}

/// What a test looks at: status, body, `Cache-Status`, and the other fields.
pub(crate) type Answer = (u16, String, String, HeaderMap);

impl Served {
    pub(crate) async fn new(
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

    pub(crate) async fn plain() -> Self {
        Self::new(|cache| cache.http_layer().body_limit(50_000)).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
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

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.cache.snapshot()
    }
}
