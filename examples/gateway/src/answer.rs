//! What the client is told.

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, Response, StatusCode, header},
    response::{IntoResponse, Response as Answer},
};
use buttress::{Error, Kind, http::Http};
use serde_json::json;

/// Answers for a backend that has not: with the policy's refusal, or with 503 if it had every
/// attempt that there was.
pub(crate) fn instead<E>(error: Error<E>) -> Answer {
    match error {
        Error::Rejected(rejected) if rejected.kind() != Kind::TimedOut => Http.respond(rejected),
        Error::Rejected(_) => failed("the backend took too long, in every attempt"),
        Error::Service(_) => failed("the backend could not be reached, in every attempt"),
    }
}

/// A problem document (RFC 9457), as the policies' refusals are.
pub(crate) fn refuse(status: StatusCode, why: &str) -> Answer {
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": why,
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, problem.to_string()).into_response()
}

fn failed(why: &str) -> Answer {
    refuse(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// The backend's answer, less what it said about its connection to us (RFC 9110, section 7.6.1).
pub(crate) fn pass_on<B>(response: Response<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut response = response.map(Body::new);
    *response.version_mut() = Default::default();
    let headers = response.headers_mut();
    let lines = headers.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&[
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ]) {
        headers.remove(name);
    }
    response
}
