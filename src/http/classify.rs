//! What a response says about the service that sent it.

use super::marker;
use crate::{
    classify::{Classify, Outcome},
    clock::wall_clock,
    context,
    error::{Kind, Rejected},
};
use http::{HeaderMap, Response, StatusCode, header};
use std::time::Duration;

/// The classifier that takes server errors for failures, and tells a full server from a broken one.
///
/// | result | outcome | because |
/// |---|---|---|
/// | `Err` | failure | no answer came |
/// | 429 | overloaded | the service is well, but refuses more calls |
/// | 503 with `buttress-rejected: overloaded`, or with `Retry-After` | overloaded | it sheds load on purpose |
/// | 503 with `buttress-rejected` of `circuit-open`, `throttled`, `not-ready` | refused | a policy of the server's refused it, for something that it needs; the server is well |
/// | 504 with `buttress-rejected: deadline-exceeded`, if the deadline was given by whoever called this process | refused | it was too short, which is not the server's doing |
/// | 408 | failure | the server gave up: since requests are rarely sent slowly, on its own work |
/// | 501, 505 | ignored | the server does not support what was asked for, and never did |
/// | any other 5xx | failure | |
/// | any other 4xx | ignored | see below |
/// | the rest | success | |
///
/// A response with a [`Rejected`] in its extensions was made by a policy in this process, and
/// counts like the rejection: a timeout is a failure; a full load shed is overload; any other
/// refusal is one.
///
/// Any other 4xx is, as the server sees it, the caller's mistake. A client that keeps asking for
/// what is not there (scanners get 401 and 404) must not open a breaker for all others. Nor may it
/// keep a breaker closed, with cheap responses that never reach what is broken. Where a 404 is a
/// proper response, such as a look-up that found nothing, use a closure:
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
    let overloaded = || Outcome::Overloaded {
        retry_after: retry_after(headers),
    };
    match (status.as_u16(), marker::marked(headers)) {
        (429, _) | (503, Some(Kind::Overloaded | Kind::RateLimited)) => overloaded(),
        (503, Some(Kind::CircuitOpen | Kind::Throttled | Kind::NotReady)) => Outcome::Refused,
        (503, Some(Kind::TimedOut | Kind::DeadlineExceeded | Kind::LoadFailed)) => Outcome::Failure,
        (503, None) if headers.contains_key(header::RETRY_AFTER) => overloaded(),
        (504, Some(Kind::DeadlineExceeded)) if is_callers_deadline() => Outcome::Refused,
        (501 | 505, _) => Outcome::Ignored,
        (408 | 500.., _) => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

/// Returns whether the call that is being polled has a deadline that came to this process with a
/// request: then that it was missed says nothing about whoever missed it.
pub(crate) fn is_callers_deadline() -> bool {
    let context = context::current();
    context.deadline.is_some() && context.limiter.is_caller()
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
        for status in [400, 401, 403, 404, 409, 422, 499, 501, 505] {
            assert_eq!(classify(status, &[]), Outcome::Ignored, "{status}");
        }
        for status in [408, 500, 502, 503, 504, 507, 520, 599] {
            assert_eq!(classify(status, &[]), Outcome::Failure, "{status}");
        }
        assert_eq!(classify(429, &[]), overloaded(None));
        assert_eq!(classify(429, &[("retry-after", "7")]), overloaded(Some(7)));
        assert_eq!(classify(503, &[("retry-after", "7")]), overloaded(Some(7)));
        // Garbage still says that the server shed the call on purpose.
        assert_eq!(classify(503, &[("retry-after", "soon")]), overloaded(None));
        assert_eq!(classify(500, &[("retry-after", "7")]), Outcome::Failure);
        let error = Classify::<Response<()>, _>::classify(&ServerErrorsAsFailures, Err(&()));
        assert_eq!(error, Outcome::Failure);
    }

    /// What an answer to a rejection says: in this process, and in the next one.
    const ANSWERS: [(Kind, Outcome, Outcome); 8] = [
        (Kind::TimedOut, Outcome::Failure, Outcome::Failure),
        (Kind::LoadFailed, Outcome::Failure, Outcome::Failure),
        (Kind::DeadlineExceeded, Outcome::Refused, Outcome::Failure),
        (Kind::Overloaded, overloaded(None), overloaded(Some(3))),
        (Kind::RateLimited, Outcome::Refused, overloaded(Some(3))),
        (Kind::CircuitOpen, Outcome::Refused, Outcome::Refused),
        (Kind::Throttled, Outcome::Refused, Outcome::Refused),
        (Kind::NotReady, Outcome::Refused, Outcome::Refused),
    ];

    fn judge(response: &Response<bytes::Bytes>) -> Outcome {
        Classify::<_, ()>::classify(&ServerErrorsAsFailures, Ok(response))
    }

    #[test]
    fn an_answer_to_a_rejection_means_what_its_policy_meant_here_and_in_the_next_process() {
        assert_eq!(ANSWERS.len(), Kind::ALL.len());
        for (kind, here, there) in ANSWERS {
            let rejected = Rejected::new(kind, "p").with_retry_after(Duration::from_secs(3));
            let mut response = super::super::Http.respond(rejected);
            assert_eq!(judge(&response), here, "{kind}");
            response.extensions_mut().clear();
            assert_eq!(judge(&response), there, "{kind}, from another process");
        }
    }

    #[test]
    fn whose_deadline_it_was_decides_what_missing_it_says() {
        let missed = Rejected::new(Kind::DeadlineExceeded, "p").having_reached_service();
        for (rejected, outcome) in [
            (missed, Outcome::Failure),
            (missed.by_callers_limit(), Outcome::Refused),
        ] {
            assert_eq!(judge(&super::super::Http.respond(rejected)), outcome);
        }
        #[cfg(feature = "timeout")]
        {
            use crate::timeout::Deadline;
            let mut response = super::super::Http.respond(missed);
            response.extensions_mut().clear();
            let own = Deadline::within(Duration::from_secs(1));
            assert_eq!(own.enter(|| judge(&response)), Outcome::Failure);
            let callers = own.of_caller();
            assert_eq!(callers.enter(|| judge(&response)), Outcome::Refused);
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
