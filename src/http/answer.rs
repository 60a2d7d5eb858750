//! The HTTP response that a rejection becomes.

use super::{Respond, marker};
use crate::error::{Kind, Rejected};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    task::{Context, Poll},
};

/// The responder that answers a rejection with a status, `Retry-After` and a small problem document
/// (RFC 9457).
///
/// | [kind](crate::Kind) | status |
/// |---|---|
/// | `RateLimited` | 429 Too Many Requests |
/// | `CircuitOpen`, `Overloaded`, `Throttled`, `NotReady` | 503 Service Unavailable |
/// | `LoadFailed` | 503 Service Unavailable |
/// | `TimedOut`, `DeadlineExceeded` | 504 Gateway Timeout |
///
/// - `Retry-After` is set when the policy knows the time. It is in whole seconds, rounded up, and
///   at least one, so that no client that obeys comes back early.
/// - The header `buttress-rejected` has the kind as its value, such as `circuit-open`. By it,
///   [`ServerErrorsAsFailures`](super::ServerErrorsAsFailures) in a client tells a server that is
///   full from one that is broken, and from one of which only a part is closed.
/// - The body is `application/problem+json`, and names the policy. If clients must not see the
///   names of policies, use a closure as the responder instead.
/// - The [`Rejected`] itself is in the response's extensions, for layers further out and for logs.
#[doc(alias = "problem_json")]
#[doc(alias = "retry-after")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

impl Respond for Http {
    type Body = ProblemBody;

    fn respond(&self, rejected: Rejected) -> Response<ProblemBody> {
        let response: Response<Bytes> = Self::respond(*self, rejected);
        response.map(|problem| ProblemBody(Some(problem)))
    }
}

/// The body of [`Http`]'s answers: a problem document, in one frame.
#[derive(Debug, Default)]
pub struct ProblemBody(Option<Bytes>);

impl Body for ProblemBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|problem| Ok(Frame::data(problem))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |problem| problem.len() as u64))
    }
}

impl Http {
    /// Returns the response to a rejection, with any body that can be made from bytes. A responder
    /// of your own can start from it.
    pub fn respond<B: From<Bytes>>(self, rejected: Rejected) -> Response<B> {
        let status = status(rejected.kind());
        let mut response = Response::new(B::from(problem(status, &rejected)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = retry_after_seconds(&rejected) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        marker::mark(headers, rejected.kind());
        response.extensions_mut().insert(rejected);
        response
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::CircuitOpen
        | Kind::Overloaded
        | Kind::Throttled
        | Kind::NotReady
        | Kind::LoadFailed => StatusCode::SERVICE_UNAVAILABLE,
        Kind::TimedOut | Kind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn retry_after_seconds(rejected: &Rejected) -> Option<u64> {
    let after = rejected.retry_after()?;
    let started = u64::from(after.subsec_nanos() > 0);
    Some(after.as_secs().saturating_add(started).max(1))
}

/// Writes a problem document. Two of the types are those of draft-ietf-httpapi-ratelimit-headers,
/// with its member `violated-policies`; for the rest the status says it all, which is what
/// `about:blank` means.
fn problem(status: StatusCode, rejected: &Rejected) -> Bytes {
    let (kind, policy) = (rejected.kind(), rejected.policy());
    let (r#type, title) = match kind {
        Kind::RateLimited => (
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "Quota exceeded",
        ),
        Kind::Overloaded => (
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "Temporarily reduced capacity",
        ),
        _ => ("about:blank", status.canonical_reason().unwrap_or_default()),
    };
    let mut json = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = write!(
        json,
        r#"{{"type":"{type}","title":"{title}","status":{},"detail":""#,
        status.as_u16()
    );
    escape(&mut json, policy);
    let _ = write!(json, ": {kind}\"");
    if kind == Kind::RateLimited {
        json.push_str(r#","violated-policies":[""#);
        escape(&mut json, policy);
        json.push_str(r#""]"#);
    }
    json.push('}');
    json.into()
}

/// Returns the inside of a JSON string (RFC 8259, section 7).
fn escape(json: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const KINDS: [(Kind, u16); 8] = [
        (Kind::RateLimited, 429),
        (Kind::CircuitOpen, 503),
        (Kind::Overloaded, 503),
        (Kind::Throttled, 503),
        (Kind::NotReady, 503),
        (Kind::LoadFailed, 503),
        (Kind::TimedOut, 504),
        (Kind::DeadlineExceeded, 504),
    ];

    #[test]
    fn every_kind_is_answered_with_its_status_and_its_marker() {
        assert_eq!(KINDS.len(), Kind::ALL.len());
        for (kind, status) in KINDS {
            let rejected = Rejected::new(kind, "orders");
            let response: Response<Bytes> = Http.respond(rejected);
            assert_eq!(response.status(), status, "{kind}");
            assert_eq!(marker::marked(response.headers()), Some(kind));
            assert_eq!(response.extensions().get(), Some(&rejected));
            assert!(!response.headers().contains_key("retry-after"));
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            let rejected = Rejected::new(Kind::RateLimited, "orders")
                .with_retry_after(Duration::from_millis(millis));
            let response: Response<Bytes> = Http.respond(rejected);
            assert_eq!(response.headers()["retry-after"], seconds);
        }
        let rejected = Rejected::new(Kind::CircuitOpen, "orders").with_retry_after(Duration::MAX);
        assert!(retry_after_seconds(&rejected) > Some(18_000_000_000));
    }

    #[test]
    fn the_body_is_a_problem_document_whatever_the_name_of_the_policy() {
        for policy in ["orders", "a \"quoted\" \\ name\n\u{1}", "straße"] {
            for (kind, status) in KINDS {
                let response: Response<Bytes> = Http.respond(Rejected::new(kind, policy));
                let json: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
                assert_eq!(json["status"], status);
                assert_eq!(json["detail"], format!("{policy}: {kind}"));
                assert!(json["type"].is_string() && json["title"].is_string());
                let violated = json.get("violated-policies").map(|list| &list[0]);
                assert_eq!(
                    violated.is_some_and(|name| name == policy),
                    kind == Kind::RateLimited
                );
            }
        }
    }
}
