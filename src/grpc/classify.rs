//! What a status says about the service that sent it.

use crate::{
    classify::{Classify, Outcome},
    error::{AsRejected, Kind, Rejected},
    http::{
        GrpcType, ServerErrorsAsFailures, ServerPushback, is_callers_deadline, marked, rejection,
    },
};
use http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status};

/// The classifier that takes the gRPC codes of a service that is unwell for failures.
///
/// | code | outcome |
/// |---|---|
/// | `OK` | success |
/// | `RESOURCE_EXHAUSTED`, `UNAVAILABLE` with `buttress-rejected` of `circuit-open`, `throttled`, `not-ready` | refused: a policy of the server's refused it, for something that it needs |
/// | other `RESOURCE_EXHAUSTED` | overloaded |
/// | `UNAVAILABLE` with `grpc-retry-pushback-ms` of zero or more | overloaded |
/// | `DEADLINE_EXCEEDED`, if the deadline was given by whoever called this process | refused: it was too short, which is not the server's doing |
/// | other `UNAVAILABLE`, `INTERNAL`, `UNKNOWN`, `DATA_LOSS`, `DEADLINE_EXCEEDED` | failure |
/// | the rest | ignored: the caller's mistake, or the caller has cancelled |
///
/// The codes mean what gRPC says of its [status codes]. `UNKNOWN` is a failure, because errors of
/// which nothing is known, such as a panic, are reported with it. A response with another HTTP
/// status than 200 comes from something between the client and the service. It counts as the code
/// that gRPC [maps] it to, except that 429, and 503 with `Retry-After`, are overload. A
/// [`Rejected`] in the status or in the response's extensions was made by a policy in this process,
/// and counts like the rejection; so does one that a method of a tonic server returned as its
/// status.
///
/// It classifies `http::Response`s (only the head: use [`OnTrailers`](super::OnTrailers) for the
/// trailers, which gRPC-Web has in the body), and the `Result<tonic::Response<T>, Status>` of a
/// generated client.
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
        return Some(returned(response).map_or(outcome, rejection));
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
    // Plain HTTP beside gRPC on one port has no trailers to wait for.
    match GrpcType::of(response.headers()) {
        None => Some(Outcome::Success),
        Some(_) => None,
    }
}

/// Returns the rejection by a policy of this process that a method has returned as its status.
/// tonic's servers keep a status in the extensions of the response that they make of it.
#[inline]
pub(super) fn returned<B>(response: &Response<B>) -> Option<&Rejected> {
    response.extensions().get::<Status>()?.as_rejected()
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
    let status = match headers.get(Status::GRPC_STATUS_DETAILS) {
        // tonic panics over these.
        Some(details) if !is_base64(details.as_bytes()) => {
            let mut headers = headers.clone();
            headers.remove(Status::GRPC_STATUS_DETAILS);
            Status::from_header_map(&headers)
        }
        _ => Status::from_header_map(headers),
    }?;
    Some(classifier.classify(Err(&status)))
}

/// Returns the value of a digit of base64 (RFC 4648, section 4).
pub(super) const fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Returns whether this is base64, with its padding or a part of it.
fn is_base64(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (digits, _) = text.split_at(text.len() - padding);
    let last = digits.last().copied().and_then(base64_digit).unwrap_or(0);
    // How much padding there may be, and which bits of the last digit are of no byte.
    let (most, unused) = match digits.len() % 4 {
        0 => (0, 0),
        2 => (2, 0b1111),
        3 => (1, 0b11),
        _ => return false,
    };
    padding <= most && last & unused == 0 && digits.iter().all(|byte| base64_digit(*byte).is_some())
}

fn by_status(status: &Status) -> Outcome {
    if let Some(rejected) = status.as_rejected() {
        return rejection(rejected);
    }
    let metadata = status.metadata().as_ref();
    let retry_after = ServerPushback::read(metadata).and_then(ServerPushback::after);
    match (status.code(), marked(metadata)) {
        (Code::Ok, _) => Outcome::Success,
        (
            Code::ResourceExhausted | Code::Unavailable,
            Some(Kind::CircuitOpen | Kind::Throttled | Kind::NotReady),
        ) => Outcome::Refused,
        (Code::DeadlineExceeded, None | Some(Kind::DeadlineExceeded)) if is_callers_deadline() => {
            Outcome::Refused
        }
        (Code::ResourceExhausted, _) => Outcome::Overloaded { retry_after },
        (Code::Unavailable, None) if retry_after.is_some() => Outcome::Overloaded { retry_after },
        (
            Code::Unavailable
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::DeadlineExceeded,
            _,
        ) => Outcome::Failure,
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
    fn a_rejections_status_means_what_its_policy_meant_here_and_in_the_next_process() {
        let after = Duration::from_millis(70);
        let asked = Outcome::Overloaded {
            retry_after: Some(after),
        };
        let answers = [
            (Kind::TimedOut, Outcome::Failure, Outcome::Failure),
            (Kind::LoadFailed, Outcome::Failure, Outcome::Failure),
            (Kind::DeadlineExceeded, Outcome::Refused, Outcome::Failure),
            (Kind::Overloaded, OVERLOAD, asked),
            (Kind::RateLimited, Outcome::Refused, asked),
            (Kind::CircuitOpen, Outcome::Refused, Outcome::Refused),
            (Kind::Throttled, Outcome::Refused, Outcome::Refused),
            (Kind::NotReady, Outcome::Refused, Outcome::Refused),
        ];
        assert_eq!(answers.len(), Kind::ALL.len());
        for (kind, here, there) in answers {
            let status = Status::from(Rejected::new(kind, "p").with_retry_after(after));
            assert_eq!(by_status(&status), here, "{kind}");
            let mut response: Response<()> = status.into_http();
            assert_eq!(head(&CodesAsFailures, &response), Some(here), "{kind}");
            response.extensions_mut().clear();
            assert_eq!(head(&CodesAsFailures, &response), Some(there), "{kind}");
        }
        // "Do not call again" names no time.
        let mut status = Status::unavailable("");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(by_status(&status), Outcome::Failure);
    }

    #[cfg(feature = "timeout")]
    #[test]
    fn a_callers_deadline_that_was_missed_says_nothing_about_the_server() {
        use crate::timeout::Deadline;
        let missed = Status::deadline_exceeded("");
        let own = Deadline::within(Duration::from_secs(1));
        assert_eq!(own.enter(|| by_status(&missed)), Outcome::Failure);
        assert_eq!(
            own.of_caller().enter(|| by_status(&missed)),
            Outcome::Refused
        );
    }

    #[test]
    fn details_that_are_no_base64_are_left_out_and_harm_nobody() {
        let texts = [
            "", "TQ", "TQ=", "TQ==", "TWE", "TWE=", "TWFu", "TWFuTWFu", "T", "TQ===", "TR",
        ];
        let more = [
            "=",
            "TWE==",
            "TWFu=",
            "!!!!",
            "T=Q=",
            "TQ==TQ==",
            "TWFuT",
            "TW Fu",
            "TWF\u{e9}",
        ];
        for text in texts.iter().chain(&more) {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", "13".parse().unwrap());
            headers.insert("grpc-status-details-bin", text.parse().unwrap());
            // What tonic makes of it, which may be a panic.
            let read = std::panic::catch_unwind(|| Status::from_header_map(&headers).is_some());
            assert_eq!(is_base64(text.as_bytes()), read.is_ok(), "{text}");
            assert_eq!(
                trailers(&CodesAsFailures, &headers),
                Some(Outcome::Failure),
                "{text}"
            );
        }
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
            None
        );
        assert_eq!(head(200, "content-type", "text/html"), success);
        assert_eq!(head(200, "server", "plain"), success);
    }
}
