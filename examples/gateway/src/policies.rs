//! The four policies, and the one stack they make.
//!
//! A request passes from the top of [`Policies::proxy`] to its bottom, and its answer the way back:
//! rate limiter, circuit breaker, retry, timeout, backend.

use crate::{answer::pass_on, config::Config};
use axum::{
    extract::{ConnectInfo, Request},
    http::{Response, StatusCode, Uri},
    response::Response as Answer,
};
use buttress::{
    Classify, Error, InvalidConfig, Outcome,
    circuit_breaker::CircuitBreaker,
    http::{ClientAddr, OnBodyEnd, ServerErrorsAsFailures},
    rate_limit::RateLimiter,
    retry::{Backoff, Budget, Retry},
    timeout::Timeout,
};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, Error as Unreached},
    rt::TokioExecutor,
};
use std::{net::SocketAddr, time::Duration};
use tower::{Service, ServiceBuilder};

/// One quota for each client address.
pub(crate) type Limiter = RateLimiter<ClientAddr<ConnectInfo<SocketAddr>>>;

/// The policies. Whoever has a clone sees and shares the same state.
#[derive(Clone, Debug)]
pub(crate) struct Policies {
    pub(crate) limiter: Option<Limiter>,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) retry: Retry,
    pub(crate) timeout: Timeout,
}

/// What can be asked, by many at once.
pub(crate) trait Proxy:
    Service<Request, Response = Answer, Error = Error<Unreached>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Proxy for S where
    S: Service<Request, Response = Answer, Error = Error<Unreached>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl Policies {
    pub(crate) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        let limiter = config.rate_limit.map(|(quota, window)| {
            let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>()
                .behind(config.trusted_proxies.clone());
            let limiter = RateLimiter::builder("client", quota, window);
            limiter.keyed(client).build()
        });
        let breaker = CircuitBreaker::builder("backend")
            // Failed requests in a row are the only rule, and the wait is always the same.
            .consecutive_failures(config.failure_threshold)
            .without_failure_rate()
            .open_for(config.recovery_timeout)
            .max_open_for(config.recovery_timeout)
            .open_growth(1.0)
            .open_jitter(0.0)
            .probes(1)
            // A probe is a whole request with all its attempts. Only one that is lost is replaced.
            .probe_timeout(
                config
                    .longest_request()
                    .saturating_add(config.request_timeout),
            )
            // A backend that hangs is told by the timeout; a client that hangs up says nothing.
            .ignore_abandoned();
        let backoff = Backoff::exponential(config.initial_backoff)
            .multiplier(config.backoff_multiplier)
            .max(Duration::MAX)
            .jitter(config.backoff_jitter);
        // The library's own budget lets retries add a tenth to the load: right for a service among
        // many, but with a backend that fails three calls in ten it would soon pay for no retries
        // at all. Here MAX_RETRIES is a promise to every request, and it is the breaker that
        // relieves a dead backend.
        let retry = Retry::builder("backend")
            .attempts(config.max_retries.saturating_add(1))
            .backoff(backoff)
            // The configured waits are part of that promise, however long they are.
            .max_wait(config.longest_request().max(Duration::from_secs(60)))
            .budget(Budget::unlimited());
        Ok(Self {
            limiter: limiter.transpose()?,
            breaker: breaker.build()?,
            retry: retry.build()?,
            timeout: Timeout::new("backend", config.request_timeout),
        })
    }

    /// A service that answers every request as the backend answers a GET of this URL.
    pub(crate) fn proxy(&self, url: Uri) -> impl Proxy {
        let idle = self.timeout.limit();
        ServiceBuilder::new()
            .map_response(pass_on)
            .option_layer(self.limiter.as_ref().map(Limiter::layer))
            .map_request(move |_: Request| get(url.clone()))
            .layer(self.breaker.layer().settle(OnBodyEnd(failed)))
            .layer(self.retry.layer().classify(transient))
            // Up to the head of an answer. Its body may be as long as it likes, but not stop coming:
            // that would hold on to the client for ever.
            .layer(self.timeout.layer().http().idle(idle))
            .map_err(Error::Service)
            .service(Client::builder(TokioExecutor::new()).build_http())
    }
}

fn get(url: Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url;
    request
}

/// What a retry may help against: 503, timeouts, and connections that cannot be made or break.
/// Every other answer is an answer.
fn transient<B, E>(result: Result<&Response<B>, &E>) -> Outcome {
    match result {
        Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => Outcome::Success,
        // Reads Retry-After, before which no retry is sent.
        result => ServerErrorsAsFailures.classify(result),
    }
}

/// What counts against the backend when all attempts are over. By itself the classifier would take
/// a 503 with Retry-After for a service that sheds load and is otherwise well; but here it is the
/// last of several attempts, each as late as was asked for, and the request has failed.
fn failed<B, E>(result: Result<&Response<B>, &E>) -> Outcome {
    match result {
        Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Outcome::Failure,
        result => ServerErrorsAsFailures.classify(result),
    }
}
