//! What is left of a quota, told with every response.

use crate::{
    key::Key,
    rate_limit::{Caller, Quota, QuotaStatus, RateLimiter},
    shared::Shared,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use std::{
    fmt::{self, Write},
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// A layer that adds the fields `RateLimit-Policy` and `RateLimit` to every response.
///
/// They tell well-meaning clients how fast they may go before they hit the limit
/// (draft-ietf-httpapi-ratelimit-headers). `RateLimit-Policy: "api";q=100;w=60` is a quota of 100
/// per 60 seconds; `w` is left out if the window is not a whole number of seconds. `RateLimit:
/// "api";r=50;t=30` says that 50 are left, and that there will be more in 30 seconds.
///
/// Put the layer outside the one that answers rejections, so that those responses have the fields
/// too. A limiter of several windows has a member for each, the further ones called by name and
/// window, such as `"api per 86400s"`. On a 429 with nothing left, `Retry-After` is then no earlier
/// than `t`. With several of these layers, each adds its own member to the fields.
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::{http::{Http, RateLimitHeadersLayer, RespondLayer}, rate_limit::RateLimiter};
/// use std::time::Duration;
///
/// let limiter = RateLimiter::builder("api", 100, Duration::from_secs(60)).build()?;
/// let app: Router = Router::new()
///     .route("/", get(|| async { "in" }))
///     .layer(RespondLayer::new(Http, limiter.layer()))
///     .layer(RateLimitHeadersLayer::new(limiter));
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
///
/// What is left is read when the response is there. By the time it arrives, other calls may have
/// taken some of it, so it is advice to the client and not a promise.
#[doc(alias = "x-ratelimit-remaining")]
#[doc(alias = "ratelimit")]
pub struct RateLimitHeadersLayer<L> {
    limiter: Shared<L>,
}

impl<L: Send + Sync + 'static> RateLimitHeadersLayer<L> {
    /// Creates a layer that tells what is left of this limiter's quotas.
    pub fn new(limiter: L) -> Self {
        Self {
            limiter: Shared::new(limiter),
        }
    }
}

impl<S, L> Layer<S> for RateLimitHeadersLayer<L> {
    type Service = RateLimitHeadersService<S, L>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        RateLimitHeadersService {
            inner,
            limiter: self.limiter.clone(),
        }
    }
}

impl<L> Clone for RateLimitHeadersLayer<L> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
        }
    }
}

impl<L: fmt::Debug> fmt::Debug for RateLimitHeadersLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimitHeadersLayer")
            .field(&self.limiter)
            .finish()
    }
}

/// A service whose responses tell what is left of a quota, built by [`RateLimitHeadersLayer`].
pub struct RateLimitHeadersService<S, L> {
    inner: S,
    limiter: Shared<L>,
}

impl<S, L> RateLimitHeadersService<S, L> {
    inner_accessors!();
}

impl<S: Clone, L> Clone for RateLimitHeadersService<S, L> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            limiter: self.limiter.clone(),
        }
    }
}

impl<S: fmt::Debug, L: fmt::Debug> fmt::Debug for RateLimitHeadersService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHeadersService")
            .field("inner", &self.inner)
            .field("limiter", &self.limiter)
            .finish()
    }
}

impl<S, K, C, Q, B, B2> Service<Request<B>> for RateLimitHeadersService<S, RateLimiter<K, C, Q>>
where
    S: Service<Request<B>, Response = Response<B2>>,
    K: Key<Request<B>>,
    Q: Quota<Request<B>>,
{
    type Response = Response<B2>;
    type Error = S::Error;
    type Future = RateLimitHeadersFuture<S::Future, RateLimiter<K, C, Q>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Request<B>) -> Self::Future {
        let caller = self.limiter.caller(&req);
        RateLimitHeadersFuture {
            call: self.inner.call(req),
            limiter: self.limiter.clone(),
            caller,
        }
    }
}

pin_project! {
    /// The response future of [`RateLimitHeadersService`].
    pub struct RateLimitHeadersFuture<F, L> {
        #[pin]
        call: F,
        limiter: Shared<L>,
        caller: Caller,
    }
}

impl<F, B, E, K, C, Q> Future for RateLimitHeadersFuture<F, RateLimiter<K, C, Q>>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.call.poll(cx))?;
        let refused = response.status() == StatusCode::TOO_MANY_REQUESTS;
        for (i, left) in this
            .limiter
            .statuses_of(this.caller)
            .into_iter()
            .enumerate()
        {
            let name = this.limiter.name();
            match i {
                0 => tell(response.headers_mut(), name, left, refused),
                _ => {
                    let name = format!("{name} per {:?}", left.window);
                    tell(response.headers_mut(), &name, left, refused);
                }
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, L> fmt::Debug for RateLimitHeadersFuture<F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHeadersFuture")
            .finish_non_exhaustive()
    }
}

fn tell(headers: &mut HeaderMap, name: &str, left: QuotaStatus, refused: bool) {
    let (reset, window) = (seconds(left.reset), left.window);
    let policy = member(name, |field| {
        write!(field, ";q={}", left.quota)?;
        match window.subsec_nanos() {
            0 => write!(field, ";w={}", window.as_secs()),
            _ => Ok(()),
        }
    });
    let rest = member(name, |field| {
        write!(field, ";r={};t={reset}", left.remaining)
    });
    if let (Some(policy), Some(rest)) = (policy, rest) {
        headers.append(POLICY, policy);
        headers.append(LEFT, rest);
    }
    if refused && left.remaining == 0 {
        // One that is a date, or someone else's, and says more stays as it is.
        let given = super::classify::retry_after(headers);
        if given.is_none_or(|given| seconds(given) < reset) {
            headers.insert(header::RETRY_AFTER, reset.max(1).into());
        }
    }
}

/// Returns whole seconds, rounded up: nobody who waits for them comes back early.
fn seconds(d: Duration) -> u64 {
    let started = u64::from(d.subsec_nanos() > 0);
    d.as_secs().saturating_add(started)
}

/// Returns a member of a structured list: a string (RFC 9651, section 3.3.3) and its parameters.
fn member(name: &str, parameters: impl FnOnce(&mut String) -> fmt::Result) -> Option<HeaderValue> {
    let mut field = String::with_capacity(name.len() + 32);
    field.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => field.extend(['\\', c]),
            ' '..='~' => field.push(c),
            // A string of a structured field is of ASCII.
            _ => field.push('_'),
        }
    }
    field.push('"');
    parameters(&mut field).ok()?;
    HeaderValue::from_maybe_shared(Bytes::from(field)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Global;

    fn told(name: &'static str, window: Duration, taken: u32, retry_after: &str) -> HeaderMap {
        let limiter: RateLimiter<Global> = RateLimiter::new(name, 2, window).unwrap();
        let now = crate::Now::lazy();
        for _ in 0..taken {
            let _ = crate::Guard::<()>::admit(&limiter, &(), &now);
        }
        let mut headers = HeaderMap::new();
        if !retry_after.is_empty() {
            headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
        }
        tell(&mut headers, name, limiter.status(&()), true);
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn the_fields_have_the_drafts_syntax_whatever_the_name() {
        let minute = Duration::from_secs(60);
        let headers = told("api", minute, 1, "");
        assert_eq!(headers[POLICY], r#""api";q=2;w=60"#);
        assert_eq!(headers[LEFT], r#""api";r=1;t=60"#);
        assert_eq!(told("api", minute, 0, "")[LEFT], r#""api";r=2;t=0"#);
        let headers = told("a \"b\" \\ ü\n", Duration::from_millis(1500), 1, "");
        assert_eq!(headers[POLICY], r#""a \"b\" \\ __";q=2"#);
        assert_eq!(headers[LEFT], r#""a \"b\" \\ __";r=1;t=2"#);
    }

    #[tokio::test(start_paused = true)]
    async fn every_window_has_a_member_and_every_key_its_own_quota() {
        let call = tower::service_fn(async |_: Request<u32>| {
            Ok::<_, std::convert::Infallible>(Response::new(()))
        });
        let limiter = RateLimiter::builder("api", 10, Duration::from_secs(1))
            .window(1_000, Duration::from_secs(86_400))
            .keyed(|req: &Request<u32>| *req.body())
            .quota(|req: &Request<u32>| [*req.body(), 100 * req.body()])
            .build()
            .unwrap();
        let mut service = RateLimitHeadersLayer::new(limiter).layer(call);
        for plan in [5, 50] {
            let answer = service.call(Request::new(plan)).await.unwrap();
            let all = |name| {
                answer
                    .headers()
                    .get_all(name)
                    .iter()
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let many = 100 * plan;
            let policies = [
                format!(r#""api";q={plan};w=1"#),
                format!(r#""api per 86400s";q={many};w=86400"#),
            ];
            assert_eq!(all(POLICY), policies);
            let left = [
                format!(r#""api";r={plan};t=0"#),
                format!(r#""api per 86400s";r={many};t=0"#),
            ];
            assert_eq!(all(LEFT), left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_no_earlier_than_the_reset_when_nothing_is_left() {
        let minute = Duration::from_secs(60);
        for (given, expected) in [("", "60"), ("7", "60"), ("soon", "60"), ("99", "99")] {
            let headers = told("api", minute, 2, given);
            assert_eq!(headers[header::RETRY_AFTER], expected, "{given}");
        }
        // Something is left, so this 429 is not of this limit.
        assert_eq!(told("api", minute, 1, "7")[header::RETRY_AFTER], "7");
        assert!(!told("api", minute, 1, "").contains_key(header::RETRY_AFTER));
    }
}
