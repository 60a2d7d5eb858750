//! The cache for HTTP: which requests it is for, and what of their responses is kept.

mod body;
mod control;
mod scheme;
mod stored;

pub use body::CacheBody;
pub use stored::StoredResponse;

use super::{
    ServerErrorsAsFailures,
    target::{self, Target},
};
use crate::{
    cache::{
        Adapter, Cache, CacheLayer, Cached, Disposition, Failure, Freshness, KeyBuf, Loaded,
        Served, Store,
    },
    classify::Classify,
    clock::wall_clock,
    error::Rejected,
};
use body::{Collected, collect};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Body;
use std::{borrow::Cow, fmt, ops::Deref, sync::Arc, time::Duration};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The adapter between HTTP and a cache, used by [`Cache::http_layer`].
#[derive(Clone)]
pub struct HttpAdapter(Arc<Terms>);

#[derive(Clone)]
struct Terms {
    freshness: Freshness,
    negative: Duration,
    body_limit: usize,
    varies_by: Vec<HeaderName>,
    ignores: Vec<HeaderName>,
    tag: Option<Arc<TagOf>>,
    original: Original,
}

type TagOf = dyn Fn(&http::Uri) -> String + Send + Sync;

/// A function that reads the URI that a router left in a request's extensions.
type Original = fn(&http::Extensions) -> Option<&http::Uri>;

impl<St: Store<StoredResponse>> Cache<StoredResponse, St> {
    /// Returns a tower layer that caches HTTP responses, for axum, hyper, and every other service
    /// of `http::Request` and `http::Response`.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use buttress::{cache::{Cache, MemoryStore}, http::{Http, RespondLayer, StoredResponse}};
    ///
    /// let store = MemoryStore::weighed(64 << 20, StoredResponse::weight)?;
    /// let cache = Cache::builder("pages").store(store).build()?;
    /// let app: Router = Router::new()
    ///     .route("/items", get(|| async { "[]" }))
    ///     .layer(RespondLayer::new(Http, cache.http_layer()));
    /// # Ok::<_, buttress::InvalidConfig>(())
    /// ```
    ///
    /// **Requests.** A `GET` request is looked up by its scheme, host, path, query and the fields
    /// that the layer [varies](CacheLayer::vary) by. Other methods bypass the cache. So do range
    /// requests, upgrades, requests with `Cache-Control: no-store`, and requests with
    /// `Authorization` or `Cookie`, unless the layer varies by that field or
    /// [ignores](CacheLayer::ignore) it. A request with `no-cache` is answered from the cache all
    /// the same, because otherwise any client could send the service the load that the cache is
    /// there to keep away.
    ///
    /// **Responses** are kept for as long as their `Cache-Control` or `Expires` says (RFC 9111,
    /// with the `stale-*` times of RFC 5861), or else as the cache was configured. 404 and 410 are
    /// kept for a [shorter time](CacheLayer::negative), and statuses that are not cacheable by
    /// default only if the response says so. A response is not kept if it is `private` or
    /// `no-cache`, sets a cookie, varies by something that is not in the key, is partial or an
    /// event stream, has trailers, or is longer than the [limit](CacheLayer::body_limit). A server
    /// error or an overload is never stored; if there is a stale response, it is returned instead.
    ///
    /// **Single flight.** Requests for one key that come together share one call to the service
    /// **if the response may be stored** for others. If not, it is only for the one who asked: the
    /// others call the service themselves, all at once, and for some seconds no request with this
    /// key waits for another. The same holds for a response that is stale at once (`max-age=0`) and
    /// kept only for when a load fails.
    ///
    /// **Writes.** After a request with an unsafe method (`POST`, say) has succeeded, all responses
    /// for the same path, or those that share its [tag](CacheLayer::tag), are invalidated before
    /// its response is returned (RFC 9111, section 4.4). The same happens after a request that may
    /// have succeeded, because it timed out or because its caller gave up; in the latter case in
    /// the background. If the store could not be told, the response says so: `Cache-Status: pages;
    /// fwd=method; detail=invalidation-pending`.
    ///
    /// Every response says how it came about in `Cache-Status` (RFC 9211). A response from the
    /// cache says how old it is in `Age`.
    ///
    /// **Nested routers.** A router that nests others takes their prefix off the path: `/a/items`
    /// and `/b/items` are both `/items` to a layer within. With the feature `axum`, the key has the
    /// whole path, wherever the layer stands (from axum 0.8's `OriginalUri`, which axum puts into
    /// every request). **Without that feature, or under another router, nested routers that share a
    /// cache take each other's answers for theirs**: say [where the whole URI
    /// is](CacheLayer::uri_from_extension), put the layer around the outermost router, or give each
    /// router a cache of its own.
    ///
    /// **Schemes.** Requests over http and over https do not share responses, because a cached
    /// redirect from one to the other would never end. The scheme comes from the request's URI if
    /// that is absolute, and from `X-Forwarded-Proto` and `Forwarded`, unless these are
    /// [ignored](CacheLayer::ignore). Anyone can make these up, but they decide only which of a few
    /// keys is looked up, and a write invalidates the responses for all of them. A service that
    /// itself listens for both http and https cannot tell them apart over HTTP/1.1: give each port
    /// a cache of its own, or set `X-Forwarded-Proto` before the layer. If the service goes by
    /// other such fields, such as `X-Forwarded-Host`, the layer must [vary](CacheLayer::vary) by
    /// them.
    ///
    /// **Hosts.** Instances that share a store must see the same `Host`, which is part of the key:
    /// let the proxy before them pass it on.
    ///
    /// **Trade-offs.** A response of unknown length is held back until its end, or until it is
    /// known to be too long. A conditional request is answered in full.
    #[doc(alias = "http_cache")]
    #[doc(alias = "cache_control")]
    #[doc(alias = "rfc9111")]
    pub fn http_layer(&self) -> CacheLayer<StoredResponse, St, HttpAdapter> {
        let freshness = self.freshness();
        self.layer_with(HttpAdapter(Arc::new(Terms {
            freshness,
            negative: Duration::from_secs(5),
            body_limit: 1 << 20,
            varies_by: Vec::new(),
            ignores: Vec::new(),
            tag: None,
            original: target::original,
        })))
    }
}

impl<St: Store<StoredResponse>> CacheLayer<StoredResponse, St, HttpAdapter> {
    fn with(self, f: impl FnOnce(&mut Terms)) -> Self {
        self.map(|HttpAdapter(terms)| {
            let mut terms = Arc::unwrap_or_clone(terms);
            f(&mut terms);
            HttpAdapter(Arc::new(terms))
        })
    }

    /// Keeps a response for each value of these request fields, such as `accept-language`. There
    /// are none by default, because every client can send as many values as it likes. A response
    /// whose `Vary` names any other field is not kept.
    #[must_use]
    pub fn vary(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|terms| terms.varies_by.extend(fields))
    }

    /// Treats requests with these fields as if they did not have them: the fields are not part of
    /// the key, and are removed before the service is called. For `cookie`, say, where responses do
    /// not depend on it.
    #[must_use]
    pub fn ignore(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|terms| terms.ignores.extend(fields))
    }

    /// Sets how long a response that says that something is not there (404 or 410) is fresh, which
    /// is never longer than other responses are. The default is 5 s: what is not there may be
    /// created at any moment, and not only through this cache.
    #[doc(alias = "negative_ttl")]
    #[must_use]
    pub fn negative(self, fresh: Duration) -> Self {
        self.with(|terms| terms.negative = fresh)
    }

    /// Sets the longest body that is kept, in bytes. The default is 1 MiB. While a response of
    /// unknown length is read, up to this much of it is held back in memory.
    #[must_use]
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|terms| terms.body_limit = bytes)
    }

    /// Sets the tag of a response, by the request's URI: responses with one tag are invalidated
    /// together. The default is the path.
    ///
    /// With `|uri| uri.path().split('/').nth(1).unwrap_or_default().into()` a write to `/tasks/7`
    /// invalidates `/tasks/7`, and `/tasks` with all its queries. The URI is the whole one, also in
    /// a nested router (see [`http_layer`](Cache::http_layer)).
    #[doc(alias = "surrogate_key")]
    #[doc(alias = "cache_tag")]
    #[must_use]
    pub fn tag(self, tag: impl Fn(&http::Uri) -> String + Send + Sync + 'static) -> Self {
        self.with(|terms| terms.tag = Some(Arc::new(tag)))
    }

    /// Reads the whole URI from an extension of the request, for routers that take a prefix off the
    /// path.
    ///
    /// Use `.uri_from_extension::<axum::extract::OriginalUri>()` where the feature `axum` is off,
    /// or with another version of axum. All layers of a cache must read the same extension.
    #[must_use]
    pub fn uri_from_extension<P>(self) -> Self
    where
        P: Deref<Target = http::Uri> + Send + Sync + 'static,
    {
        self.with(|terms| terms.original = target::extension::<P>)
    }
}

impl Terms {
    fn use_of(&self, method: &Method, headers: &HeaderMap) -> Disposition {
        if matches!(
            *method,
            Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
        ) {
            return Disposition::Bypass;
        }
        if *method != Method::GET {
            return Disposition::Invalidate;
        }
        let personal = |name: &HeaderName| {
            let allowed = self.varies_by.contains(name) || self.ignores.contains(name);
            headers.contains_key(name) && !allowed
        };
        let bypass = personal(&header::AUTHORIZATION)
            || personal(&header::COOKIE)
            || headers.contains_key(header::RANGE)
            || headers.contains_key(header::UPGRADE)
            || control::forbids_storing(headers);
        if bypass {
            Disposition::Bypass
        } else {
            Disposition::Lookup
        }
    }

    fn write(&self, target: Target<'_>, headers: &HeaderMap, key: &mut KeyBuf) {
        let uri = target.seen;
        let said = headers.get(header::HOST).map(text);
        let said = said.as_deref();
        let host = uri.authority().map(http::uri::Authority::as_str).or(said);
        let host = host.unwrap_or_default();
        // The same host in any case. And none can hold a line end, so that none can end in what is
        // another one's path.
        key.tag.push_str(host);
        key.tag.make_ascii_lowercase();
        key.tag.push('\n');
        key.key.push_str(&key.tag);
        if let Some(said) = said
            && !said.eq_ignore_ascii_case(host)
        {
            // Who knows which of the two the service goes by.
            key.key.push_str(said);
            key.key.push('\r');
        }
        let whole = target.whole();
        match &self.tag {
            Some(tag) => key.tag.push_str(&tag(whole)),
            None => key.tag.push_str(whole.path()),
        }
        // No URI and no field can hold a NUL, with which these end. The tag is without the scheme:
        // a write by the one outdates what the other has.
        scheme::write(uri, headers, &self.ignores, &mut key.key);
        if let Some(original) = target.original {
            // Both, for the service may go by either.
            key.key.push_str(path_and_query(original));
            key.key.push('\0');
        }
        key.key.push_str(path_and_query(uri));
        for name in &self.varies_by {
            // No value can contain a line end, so none can be taken for another.
            key.key.push('\n');
            for value in headers.get_all(name) {
                key.key.push_str(&text(value));
                key.key.push('\r');
            }
        }
    }
}

fn path_and_query(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// Returns a field's value for a key: what is no text is told apart from other such values too.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    value.to_str().map_or_else(
        |_| Cow::Owned(format!("{:?}", value.as_bytes())),
        Cow::Borrowed,
    )
}

impl<ReqB, B, E> Adapter<Request<ReqB>, Response<B>, E> for HttpAdapter
where
    ReqB: Send + 'static,
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    type Value = StoredResponse;
    type Uncacheable = Response<CacheBody<B>>;
    type Response = Response<CacheBody<B>>;

    fn key(&self, req: &Request<ReqB>, key: &mut KeyBuf) -> Disposition {
        let used = self.0.use_of(req.method(), req.headers());
        if used != Disposition::Bypass {
            let original = (self.0.original)(req.extensions());
            let target = Target::new(req.uri(), original);
            self.0.write(target, req.headers(), key);
        }
        used
    }

    fn prepare(&self, req: &mut Request<ReqB>) {
        // The answer is for others as well.
        for name in [
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_MATCH,
            header::IF_UNMODIFIED_SINCE,
            header::IF_RANGE,
        ] {
            req.headers_mut().remove(name);
        }
        for name in &self.0.ignores {
            req.headers_mut().remove(name);
        }
    }

    async fn classify(
        &self,
        result: Result<Response<B>, E>,
        rejected: Option<Rejected>,
    ) -> Loaded<StoredResponse, Response<CacheBody<B>>, E> {
        let outcome = ServerErrorsAsFailures.classify(result.as_ref());
        let unwell = outcome.is_unwell();
        let (parts, body) = match result {
            Ok(response) => response.into_parts(),
            Err(error) => {
                let unwell = unwell || rejected.is_some();
                return Loaded::Failed(Failure::Error {
                    error,
                    unwell,
                    rejected,
                });
            }
        };
        let terms = &*self.0;
        let kept = control::kept(
            parts.status,
            &parts.headers,
            terms.freshness,
            terms.negative,
            &terms.varies_by,
            wall_clock(),
        );
        let events = parts.headers.get(header::CONTENT_TYPE);
        let events = events.is_some_and(|of| of.as_bytes().starts_with(b"text/event-stream"));
        let Some(freshness) = kept.filter(|_| !unwell && !events) else {
            let response = Response::from_parts(parts, CacheBody::streamed(body));
            return match unwell {
                true => Loaded::Failed(Failure::Uncacheable(response)),
                false => Loaded::Uncacheable(response),
            };
        };
        match collect(body, terms.body_limit).await {
            Collected::Whole(body) => {
                let stored = StoredResponse::new(parts, body);
                match control::is_fallback(&freshness) {
                    true => Loaded::Fallback(stored, freshness),
                    false => Loaded::Answer(stored, Some(freshness)),
                }
            }
            Collected::Uncacheable(body) => Loaded::Uncacheable(Response::from_parts(parts, body)),
            Collected::Broken(body) => {
                Loaded::Failed(Failure::Uncacheable(Response::from_parts(parts, body)))
            }
        }
    }

    fn succeeded(&self, result: Result<&Response<B>, &E>) -> bool {
        result.is_ok_and(|response| {
            response.status().is_success() || response.status().is_redirection()
        })
    }

    fn cached(&self, cached: Cached<StoredResponse>) -> Response<CacheBody<B>> {
        let mut response = cached.value.response();
        if !matches!(cached.status.served(), Served::Loaded { .. }) || cached.status.collapsed() {
            let age = control::age(response.headers()).saturating_add(cached.status.age());
            response
                .headers_mut()
                .insert(header::AGE, age.as_secs().into());
        }
        say(&mut response, &cached.status);
        response.extensions_mut().insert(cached.status);
        response
    }

    fn uncacheable(
        &self,
        mut response: Response<CacheBody<B>>,
        cache: &'static str,
    ) -> Response<CacheBody<B>> {
        say(&mut response, &format_args!("{cache}; fwd=uri-miss"));
        response
    }

    fn bypassed(
        &self,
        response: Response<B>,
        cache: &'static str,
        used: Disposition,
        pending: bool,
    ) -> Response<CacheBody<B>> {
        let mut response = response.map(CacheBody::streamed);
        match (used, pending) {
            (Disposition::Invalidate, true) => say(
                &mut response,
                &format_args!("{cache}; fwd=method; detail=invalidation-pending"),
            ),
            (Disposition::Invalidate, false) => {
                say(&mut response, &format_args!("{cache}; fwd=method"))
            }
            _ => say(&mut response, &format_args!("{cache}; fwd=bypass")),
        }
        response
    }
}

/// Adds a member to `Cache-Status`, after those of caches nearer to the service.
fn say<B>(response: &mut Response<B>, status: &dyn fmt::Display) {
    // A policy's name may hold what a field may not.
    if let Ok(value) = HeaderValue::try_from(status.to_string()) {
        response.headers_mut().append(&CACHE_STATUS, value);
    }
}

impl fmt::Debug for HttpAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAdapter")
            .field("freshness", &self.0.freshness)
            .field("body_limit", &self.0.body_limit)
            .field("varies_by", &self.0.varies_by)
            .finish_non_exhaustive()
    }
}
