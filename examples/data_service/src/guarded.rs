//! Policies around Postgres, and a cache before it: what the library is for.

use crate::{
    answer::{self, CACHE_STATUS, INVALIDATION, STALE, rejected_by, unavailable},
    cached::{self, Answers, Body},
    config::Config,
    health::{self, Redis},
    items::{Failure, Items, NewItem},
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use buttress::{
    CircuitBreaker, Error, InvalidConfig, LoadShed, Timeout,
    cache::{Cached, KeyRef},
    http::RespondLayer,
    registry::Registry,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The name of the limit on requests at once.
pub(crate) const REQUESTS: &str = "requests";

/// The service with its policies.
pub(crate) struct Guarded {
    pub(crate) items: Items,
    pub(crate) answers: Answers,
    redis: Redis,
    timeout: Timeout,
    breaker: CircuitBreaker,
    requests: LoadShed,
}

impl Guarded {
    pub(crate) fn new(
        config: &Config,
        items: Items,
        answers: Answers,
        redis: Redis,
    ) -> Result<Self, InvalidConfig> {
        let breaker = CircuitBreaker::builder("postgres")
            // Short, and always the same: Postgres is in use again a moment after it is back, and
            // two probes a second cost a dead one nothing.
            .open_for(Duration::from_millis(500))
            .max_open_for(Duration::from_millis(500));
        let requests = LoadShed::builder(REQUESTS)
            .fixed(config.max_concurrent)
            .retry_after(Duration::from_secs(1));
        Ok(Self {
            items,
            answers,
            redis,
            timeout: Timeout::new("postgres", config.postgres_timeout),
            breaker: breaker.build()?,
            requests: requests.build()?,
        })
    }

    /// Lists all that counts.
    pub(crate) fn observe(&self, registry: &Registry) {
        registry.add(&self.requests);
        registry.add(&self.answers);
        registry.add(&self.breaker);
        registry.add(&self.timeout);
    }

    /// Limits the requests that these routes work on at once, and sees to it that every answer of
    /// theirs says what the cache has done.
    pub(crate) fn around<S: Clone + Send + Sync + 'static>(&self, data: Router<S>) -> Router<S> {
        let limit = RespondLayer::new(rejected_by, self.requests.layer().http());
        data.layer(limit).layer(from_fn(cache_status))
    }

    pub(crate) async fn list(self: &Arc<Self>, limit: i64) -> Response {
        let load = async move |items: Items| items.list(limit).await.map(Some);
        self.read(cached::list(&limit.to_string()), load).await
    }

    pub(crate) async fn one(self: &Arc<Self>, id: i64) -> Response {
        let load = async move |items: Items| items.one(id).await;
        self.read(KeyRef::new(&cached::item(id)), load).await
    }

    /// From the cache, or from Postgres by way of it.
    async fn read<F>(
        self: &Arc<Self>,
        key: KeyRef<'_>,
        load: impl FnOnce(Items) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = Result<Body, Failure>> + Send + 'static,
    {
        let this = Arc::clone(self);
        let load = async move || this.postgres(load).await;
        let Cached { value, status } = match self.answers.run(key, load).await {
            Ok(cached) => cached,
            Err(error) => {
                let mut response = unavailable(error);
                let missed = HeaderValue::from_static("items; fwd=uri-miss");
                response.headers_mut().insert(CACHE_STATUS, missed);
                return response;
            }
        };
        let mut response = match value {
            Some(json) => answer::body(StatusCode::OK, json),
            None => answer::no_such_item(),
        };
        let headers = response.headers_mut();
        if let Ok(status_field) = status.to_string().try_into() {
            headers.insert(CACHE_STATUS, status_field);
        }
        headers.insert(header::AGE, status.age().as_secs().into());
        if status.is_stale() {
            headers.insert(STALE, HeaderValue::from_static("true"));
        }
        response
    }

    /// Writes, and outdates what was cached before it answers.
    pub(crate) async fn create(&self, new: NewItem) -> Response {
        let insert = async move |items: Items| items.insert(&new).await;
        let written = match self.postgres(insert).await {
            Ok(Ok(written)) => written,
            Ok(Err(unfit)) => return unfit.into_response(),
            Err(error) => return unavailable(error),
        };
        let mut response = answer::body(StatusCode::CREATED, written.body);
        let headers = response.headers_mut();
        if let Ok(place) = format!("/data/{}", written.id).try_into() {
            headers.insert(header::LOCATION, place);
        }
        if cached::outdate(&self.answers, written.id).await.is_err() {
            // It is in the outbox, and will be repeated.
            headers.insert(INVALIDATION, HeaderValue::from_static("pending"));
        } else {
            // Whether or not this note can be removed now: what it asks for may be done twice.
            let done = async move |items: Items| items.done(&[written.note]).await;
            let _ = self.postgres(done).await;
        }
        response
    }

    /// Up, degraded or down: down is who cannot answer.
    pub(crate) async fn health(&self) -> Response {
        // As every other question, so that a Postgres that is back is noticed even if nobody else
        // asks.
        let postgres = self.postgres(async |items: Items| items.ping().await);
        // Who asks for health does not wait in line for a connection.
        let postgres = timeout(Duration::from_millis(500), postgres);
        let (postgres, redis) = tokio::join!(postgres, self.redis.ping());
        health::answer(postgres.is_ok_and(|answer| answer.is_ok()), redis)
    }

    /// Asks Postgres, if it is worth asking, and not for longer than the timeout.
    pub(crate) async fn postgres<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        ask: impl FnOnce(Items) -> F,
    ) -> Result<T, Error<Failure>> {
        let asked = ask(self.items.clone());
        let ask = async || asked.await.map_err(Error::Service);
        self.breaker.run(|| self.timeout.run(ask)).await
    }
}

/// What the cache did not say, because it was not asked.
async fn cache_status(request: Request, next: Next) -> Response {
    let forwarded = match *request.method() {
        Method::GET | Method::HEAD => "items; fwd=bypass",
        _ => "items; fwd=method",
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let absent = headers.entry(CACHE_STATUS);
    absent.or_insert(HeaderValue::from_static(forwarded));
    response
}
