//! Policies around Postgres: what the library is for.

use crate::{
    answer::{self, CACHE_STATUS, rejected_by, unavailable},
    config::Config,
    health::{self, Redis},
    items::{Failure, Items, NewItem},
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use buttress::{CircuitBreaker, Error, InvalidConfig, LoadShed, Timeout, http::RespondLayer};
use std::{future::Future, time::Duration};

/// The name of the limit on requests at once.
pub(crate) const REQUESTS: &str = "requests";

/// The service with its policies. Clones share them.
#[derive(Clone)]
pub(crate) struct Guarded {
    items: Items,
    redis: Redis,
    timeout: Timeout,
    breaker: CircuitBreaker,
    requests: LoadShed,
}

impl Guarded {
    pub(crate) fn new(config: &Config, items: Items, redis: Redis) -> Result<Self, InvalidConfig> {
        let breaker = CircuitBreaker::builder("postgres")
            // Short and always the same: Postgres is back in service a second after it is back.
            // A probe a second costs a dead one nothing.
            .open_for(Duration::from_millis(500))
            .max_open_for(Duration::from_millis(1000));
        let requests = LoadShed::builder(REQUESTS)
            .fixed(config.max_concurrent)
            .retry_after(Duration::from_secs(1));
        Ok(Self {
            items,
            redis,
            timeout: Timeout::new("postgres", config.postgres_timeout),
            breaker: breaker.build()?,
            requests: requests.build()?,
        })
    }

    /// Makes the tables: now if Postgres is there, else as soon as it is.
    pub(crate) async fn prepare(&self) {
        let items = self.items.clone();
        let prepare = async move || items.prepare().await;
        if let Err(error) = self.postgres(prepare).await {
            eprintln!("Postgres is not ready: {error}");
        }
    }

    /// Limits the requests that these routes work on at once, and sees to it that every answer of
    /// theirs says what the cache has done.
    pub(crate) fn around<S: Clone + Send + Sync + 'static>(&self, data: Router<S>) -> Router<S> {
        let limit = RespondLayer::new(rejected_by, self.requests.layer());
        data.layer(limit).layer(from_fn(cache_status))
    }

    pub(crate) async fn list(&self, limit: i64) -> Response {
        let items = self.items.clone();
        match self.postgres(async move || items.list(limit).await).await {
            Ok(json) => answer::body(StatusCode::OK, json),
            Err(error) => unavailable(error),
        }
    }

    pub(crate) async fn one(&self, id: i64) -> Response {
        let items = self.items.clone();
        match self.postgres(async move || items.one(id).await).await {
            Ok(Some(json)) => answer::body(StatusCode::OK, json),
            Ok(None) => answer::no_such_item(),
            Err(error) => unavailable(error),
        }
    }

    pub(crate) async fn create(&self, new: NewItem) -> Response {
        let items = self.items.clone();
        match self.postgres(async move || items.insert(&new).await).await {
            Ok(Ok(written)) => answer::body(StatusCode::CREATED, written.body),
            Ok(Err(unfit)) => unfit.into_response(),
            Err(error) => unavailable(error),
        }
    }

    /// Up, degraded or down: down is who cannot answer.
    pub(crate) async fn health(&self) -> Response {
        let items = self.items.clone();
        // As every other question, so that a Postgres that is back is noticed even if nobody else
        // asks.
        let postgres = self.postgres(async move || items.ping().await);
        let (postgres, redis) = tokio::join!(postgres, self.redis.ping());
        health::answer(postgres.is_ok(), redis)
    }

    /// Asks Postgres, if it is worth asking, and not for longer than the timeout.
    async fn postgres<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        ask: impl FnOnce() -> F,
    ) -> Result<T, Error<Failure>> {
        let ask = async || ask().await.map_err(Error::Service);
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
