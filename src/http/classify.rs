//! What a response says about the service that sent it.

use crate::{
    classify::{Classify, Outcome},
    clock::wall_clock,
    error::{Kind, Rejected},
};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use std::time::Duration;

/// The header that marks a rejection by [`Http`](super::Http).
pub(crate) const OVERLOADED: HeaderName = HeaderName::from_static(OVERLOADED_NAME);
pub(crate) const OVERLOADED_NAME: &str = "buttress-overloaded";

/// The classifier that takes server errors for failures, and tells a full server from a broken one.
///
/// | result | outcome | because |
/// |---|---|---|
/// | `Err` | failure | no answer came |
/// | 429 | overloaded | the service is well, but refuses more calls |
/// | 503 with `Retry-After` or `buttress-overloaded` | overloaded | it sheds load on purpose |
/// | 501, 505 | ignored | the server does not support what was asked for, and never did |
/// | any other 5xx | failure | |
/// | any other 4xx | ignored | see below |
/// | the rest | success | |
///
/// A response with a [`Rejected`] in its extensions was made by a policy in this process, and
/// counts like the rejection: a timeout is a failure, a refusal is overload.
///
/// A 4xx is, as the server sees it, the caller's mistake. A client that keeps asking for what is
/// not there (scanners get 401 and 404) must not open a breaker for all others. Nor may it keep a
/// breaker closed, with cheap responses that never reach what is broken. Where a 404 is a proper
/// response, such as a look-up that found nothing, use a closure:
///
/// ```
/// use buttress::{Classify, Outcome, http::ServerErrorsAsFailures};
/// use http::Response;
///
/// let classifier = |result: Result<&Response<String>, &std::io::Error>| match result {
///     Ok(response) if response.status() == 404 => Outcome::Success,
///     result => ServerErrorsAsFailures.classify(result),
/// };
/// # let response = Response::builder().status(404).body(String::new()).unwrap();
/// # assert_eq!(classifier.classify(Ok(&response)), Outcome::Success);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerErrorsAsFailures;

impl<B, E> Classify<Response<B>, E> for ServerErrorsAsFailures {
    #[inline]
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) if response.status().as_u16() < 400 => Outcome::Success,
            Ok(response) => match response.extensions().get() {
                Some(rejected) => rejection(rejected),
                None => server_error(response.status(), response.headers()),
            },
            Err(_) => Outcome::Failure,
        }
    }
}

/// Returns what a rejection says about the service behind the policy that made it.
#[cold]
pub(crate) fn rejection(rejected: &Rejected) -> Outcome {
    match rejected.kind() {
        Kind::LoadFailed => Outcome::Failure,
        Kind::TimedOut | Kind::DeadlineExceeded
            if rejected.reached_service() && !rejected.is_callers_limit() =>
        {
            Outcome::Failure
        }
        // This very service has no room. How long to stay away is its policy's word, not its own.
        Kind::Overloaded => Outcome::Overloaded { retry_after: None },
        Kind::TimedOut
        | Kind::DeadlineExceeded
        | Kind::CircuitOpen
        | Kind::RateLimited
        | Kind::Throttled
        | Kind::NotReady => Outcome::Refused,
    }
}

#[cold]
fn server_error(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Overloaded {
            retry_after: retry_after(headers),
        },
        503 if headers.contains_key(OVERLOADED) || headers.contains_key(header::RETRY_AFTER) => {
            Outcome::Overloaded {
                retry_after: retry_after(headers),
            }
        }
        501 | 505 => Outcome::Ignored,
        status if status >= 500 => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

/// Returns when the server wants to be asked again: `Retry-After`, as seconds or as a date (RFC
/// 9110, section 10.2.3). A date that has passed means now; what cannot be read was not said.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean a very long time, not nothing.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(wall_clock()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, headers: &[(&'static str, &str)]) -> Outcome {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(()).unwrap();
        Classify::<_, ()>::classify(&ServerErrorsAsFailures, Ok(&response))
    }

    const fn overloaded(seconds: Option<u64>) -> Outcome {
        let retry_after = match seconds {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        };
        Outcome::Overloaded { retry_after }
    }

    #[test]
    fn a_status_means_what_the_table_says() {
        for status in [200, 204, 206, 301, 304] {
            assert_eq!(classify(status, &[]), Outcome::Success, "{status}");
        }
        for status in [400, 401, 403, 404, 408, 409, 422, 499, 501, 505] {
            assert_eq!(classify(status, &[]), Outcome::Ignored, "{status}");
        }
        for status in [500, 502, 503, 504, 507, 520, 599] {
            assert_eq!(classify(status, &[]), Outcome::Failure, "{status}");
        }
        assert_eq!(classify(429, &[]), overloaded(None));
        assert_eq!(classify(429, &[("retry-after", "7")]), overloaded(Some(7)));
        assert_eq!(classify(503, &[("retry-after", "7")]), overloaded(Some(7)));
        // Garbage still says that the server shed the call on purpose.
        assert_eq!(classify(503, &[("retry-after", "soon")]), overloaded(None));
        let marked = [("buttress-overloaded", "throttled")];
        assert_eq!(classify(503, &marked), overloaded(None));
        assert_eq!(classify(500, &[("retry-after", "7")]), Outcome::Failure);
        let error = Classify::<Response<()>, _>::classify(&ServerErrorsAsFailures, Err(&()));
        assert_eq!(error, Outcome::Failure);
    }

    #[test]
    fn a_rejection_in_the_extensions_means_what_its_policy_meant() {
        for (kind, outcome) in [
            (Kind::TimedOut, Outcome::Failure),
            (Kind::DeadlineExceeded, Outcome::Ignored),
            (Kind::CircuitOpen, overloaded(Some(3))),
        ] {
            let mut response = Response::builder().status(504).body(()).unwrap();
            let rejected = Rejected::new(kind, "p").with_retry_after(Duration::from_secs(3));
            response.extensions_mut().insert(rejected);
            let got = Classify::<_, ()>::classify(&ServerErrorsAsFailures, Ok(&response));
            assert_eq!(got, outcome);
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_garbage_is_nothing() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!((read("0"), read(" 12 ")), (seconds(0), seconds(12)));
        assert_eq!(read("99999999999999999999999"), seconds(u64::MAX));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), seconds(0));
        for garbage in ["", "-1", "+5", "1.5", "soon", "12 s", "0x10"] {
            assert_eq!(read(garbage), None, "{garbage}");
        }
        let later = read(&httpdate::fmt_http_date(
            wall_clock() + Duration::from_secs(60),
        ));
        assert!(later > seconds(58) && later <= seconds(60), "{later:?}");
    }
}
