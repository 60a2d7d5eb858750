//! What a status says about the service that sent it.

use super::status::ServerPushback;
use crate::{
    classify::{Classify, Outcome},
    error::{AsRejected, Rejected},
    http::{OVERLOADED, ServerErrorsAsFailures, rejection},
};
use http::{HeaderMap, Response, StatusCode, header};
use tonic::{Code, Status};

/// The classifier that takes the gRPC codes of a service that is unwell for failures.
///
/// | code | outcome |
/// |---|---|
/// | `OK` | success |
/// | `RESOURCE_EXHAUSTED` | overloaded |
/// | `UNAVAILABLE` with `grpc-retry-pushback-ms` of zero or more, or with `buttress-overloaded` | overloaded |
/// | other `UNAVAILABLE`, `INTERNAL`, `UNKNOWN`, `DATA_LOSS`, `DEADLINE_EXCEEDED` | failure |
/// | the rest | ignored: the caller's mistake, or the caller has cancelled |
///
/// The codes mean what gRPC says of its [status codes]. `UNKNOWN` is a failure, because errors of
/// which nothing is known, such as a panic, are reported with it. A response with another HTTP
/// status than 200 comes from something between the client and the service. It counts as the code
/// that gRPC [maps] it to, except that 429, and 503 with `Retry-After`, are overload. A
/// [`Rejected`] in the status or in the response's extensions was made by a policy in this process,
/// and counts like the rejection.
///
/// It classifies `http::Response`s (only the head: use [`OnTrailers`](super::OnTrailers) for the
/// trailers), and the `Result<tonic::Response<T>, Status>` of a generated client.
///
/// [status codes]: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
/// [maps]: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
#[derive(Clone, Copy, Debug, Default)]
pub struct CodesAsFailures;

impl Classify<(), Status> for CodesAsFailures {
    fn classify(&self, result: Result<&(), &Status>) -> Outcome {
        match result {
            Ok(()) => Outcome::Success,
            Err(status) => by_status(status),
        }
    }
}

impl<T> Classify<tonic::Response<T>, Status> for CodesAsFailures {
    fn classify(&self, result: Result<&tonic::Response<T>, &Status>) -> Outcome {
        self.classify(result.map(|_| &()))
    }
}

impl<B, E> Classify<Response<B>, E> for CodesAsFailures {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => head(self, response).unwrap_or(Outcome::Success),
            Err(_) => Outcome::Failure,
        }
    }
}

/// Returns what the head of a response says, unless that is left to the trailers.
pub(super) fn head<B, C: Classify<(), Status>>(
    classifier: &C,
    response: &Response<B>,
) -> Option<Outcome> {
    if let Some(rejected) = response.extensions().get::<Rejected>() {
        return Some(rejection(rejected));
    }
    if let Some(outcome) = trailers(classifier, response.headers()) {
        return Some(outcome);
    }
    if response.status() != StatusCode::OK {
        let by_http = Classify::<_, ()>::classify(&ServerErrorsAsFailures, Ok(response));
        return Some(match by_http {
            Outcome::Overloaded { .. } => by_http,
            _ => {
                let reason = "answered by something that does not speak gRPC";
                let status = Status::new(by_http_status(response.status()), reason);
                classifier.classify(Err(&status))
            }
        });
    }
    // Plain HTTP beside gRPC on one port, and gRPC-Web, which has its trailers in the body.
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    match rest {
        None | Some([b'-', ..]) => Some(Outcome::Success),
        Some(_) => None,
    }
}

/// Returns what these trailers, or the headers of a response without a body, say. `None`: no
/// status.
pub(super) fn trailers<C: Classify<(), Status>>(
    classifier: &C,
    headers: &HeaderMap,
) -> Option<Outcome> {
    let code = headers.get(Status::GRPC_STATUS)?;
    if code == "0" {
        return Some(classifier.classify(Ok(&())));
    }
    let status = Status::from_header_map(headers)?;
    Some(classifier.classify(Err(&status)))
}

fn by_status(status: &Status) -> Outcome {
    if let Some(rejected) = status.as_rejected() {
        return rejection(rejected);
    }
    let metadata = status.metadata().as_ref();
    let pushback = ServerPushback::read(metadata).and_then(ServerPushback::after);
    match status.code() {
        Code::Ok => Outcome::Success,
        Code::ResourceExhausted => Outcome::Overloaded {
            retry_after: pushback,
        },
        Code::Unavailable if pushback.is_some() || metadata.contains_key(OVERLOADED) => {
            Outcome::Overloaded {
                retry_after: pushback,
            }
        }
        Code::Unavailable
        | Code::Internal
        | Code::Unknown
        | Code::DataLoss
        | Code::DeadlineExceeded => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

fn by_http_status(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use std::time::Duration;

    const OVERLOAD: Outcome = Outcome::Overloaded { retry_after: None };

    #[test]
    fn a_code_means_what_the_table_says() {
        let failures = [
            Code::Unavailable,
            Code::Internal,
            Code::Unknown,
            Code::DataLoss,
        ];
        for code in (0..17).map(Code::from_i32) {
            let expected = match code {
                Code::Ok => Outcome::Success,
                Code::ResourceExhausted => OVERLOAD,
                Code::DeadlineExceeded => Outcome::Failure,
                code if failures.contains(&code) => Outcome::Failure,
                _ => Outcome::Ignored,
            };
            assert_eq!(by_status(&Status::new(code, "")), expected, "{code:?}");
            let response: Response<()> = Status::new(code, "").into_http();
            let got = Classify::<_, ()>::classify(&CodesAsFailures, Ok(&response));
            assert_eq!(got, expected, "{code:?} in headers");
        }
    }

    #[test]
    fn refusals_are_overload_in_this_process_and_in_the_next() {
        let after = Duration::from_millis(70);
        for kind in [Kind::CircuitOpen, Kind::RateLimited, Kind::NotReady] {
            let known = Outcome::Overloaded {
                retry_after: Some(after),
            };
            for (rejected, expected) in [
                (Rejected::new(kind, "p"), OVERLOAD),
                (Rejected::new(kind, "p").with_retry_after(after), known),
            ] {
                let status = Status::from(rejected);
                assert_eq!(by_status(&status), expected);
                let mut response: Response<()> = status.into_http();
                response.extensions_mut().clear();
                assert_eq!(head(&CodesAsFailures, &response), Some(expected));
            }
        }
        let timed_out = Status::from(Rejected::new(Kind::TimedOut, "p"));
        assert_eq!(by_status(&timed_out), Outcome::Failure);
        // "Do not call again" names no time.
        let mut status = Status::unavailable("");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(by_status(&status), Outcome::Failure);
    }

    #[test]
    fn other_http_statuses_mean_the_code_they_map_to() {
        let head = |status: u16, name: &'static str, value: &str| {
            let response = Response::builder().status(status).header(name, value);
            head(&CodesAsFailures, &response.body(()).unwrap())
        };
        for (status, expected) in [
            (400, Outcome::Failure),
            (401, Outcome::Ignored),
            (403, Outcome::Ignored),
            (404, Outcome::Ignored),
            (418, Outcome::Failure),
            (429, OVERLOAD),
            (500, Outcome::Failure),
            (502, Outcome::Failure),
            (503, Outcome::Failure),
        ] {
            assert_eq!(
                head(status, "content-type", "text/html"),
                Some(expected),
                "{status}"
            );
        }
        let shed = Outcome::Overloaded {
            retry_after: Some(Duration::from_secs(2)),
        };
        assert_eq!(head(503, "retry-after", "2"), Some(shed));
        assert_eq!(head(200, "content-type", "application/grpc+proto"), None);
        assert_eq!(head(200, "content-type", "application/grpc"), None);
        let success = Some(Outcome::Success);
        assert_eq!(
            head(200, "content-type", "application/grpc-web+proto"),
            success
        );
        assert_eq!(head(200, "content-type", "text/html"), success);
        assert_eq!(head(200, "server", "plain"), success);
    }
}
