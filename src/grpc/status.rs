//! The status that a rejection becomes.

use crate::{
    error::{AsRejected, Kind, Rejected, rejection_in},
    http::{PUSHBACK, REJECTED_NAME, Respond, ServerPushback, token},
};
use http::Response;
use std::{error::Error, sync::Arc};
use tonic::{Code, Status, metadata::MetadataValue};

/// The responder that answers a rejection with a gRPC status, in a response of nothing but
/// trailers.
///
/// | [kind](crate::Kind) | code |
/// |---|---|
/// | `RateLimited`, `Overloaded`, `Throttled` | `RESOURCE_EXHAUSTED` |
/// | `CircuitOpen`, `NotReady` | `UNAVAILABLE` |
/// | `LoadFailed` | `UNAVAILABLE` |
/// | `TimedOut`, `DeadlineExceeded` | `DEADLINE_EXCEEDED` |
///
/// `grpc-retry-pushback-ms` is set when the policy knows the time. The metadata `buttress-rejected`
/// has the kind as its value, such as `circuit-open`: by it,
/// [`CodesAsFailures`](super::CodesAsFailures) in another process does not take a refusal for a
/// failure. The [`Rejected`] is in the response's extensions.
///
/// It can be used in a client's stack as well, in place of [`status`]. But then the caller sees
/// only the status, and not the rejection itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl Respond for Grpc {
    type Body = tonic::body::Body;

    fn respond(&self, rejected: Rejected) -> Response<tonic::body::Body> {
        Self::respond(*self, rejected)
    }
}

impl Grpc {
    /// Returns the response to a rejection, with an empty body. A responder of your own can start
    /// from it.
    pub fn respond<B: Default>(self, rejected: Rejected) -> Response<B> {
        let mut response = Status::from(rejected).into_http();
        response.extensions_mut().insert(rejected);
        response
    }
}

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        let code = match rejected.kind() {
            Kind::RateLimited | Kind::Overloaded | Kind::Throttled => Code::ResourceExhausted,
            Kind::CircuitOpen | Kind::NotReady | Kind::LoadFailed => Code::Unavailable,
            Kind::TimedOut | Kind::DeadlineExceeded => Code::DeadlineExceeded,
        };
        let mut status = Self::new(code, rejected.to_string());
        let metadata = status.metadata_mut();
        if let Some(after) = rejected.retry_after() {
            let millis = ServerPushback::millis(after);
            metadata.insert(PUSHBACK, MetadataValue::from(millis));
        }
        let token = MetadataValue::from_static(token(rejected.kind()));
        metadata.insert(REJECTED_NAME, token);
        status.set_source(Arc::new(rejected));
        status
    }
}

/// Returns the rejection that the status was made from, if that was in this process: it is not sent
/// over the network.
impl AsRejected for Status {
    fn as_rejected(&self) -> Option<&Rejected> {
        rejection_in(self.source()?)
    }
}

/// Turns any error into a status. For the bottom of a client's stack: `.map_err(grpc::status)`.
///
/// A status stays what it is, and a failure to connect becomes `UNAVAILABLE`, as in tonic itself.
/// The layers above can then turn a [`Rejected`] into a status too. With another error type, such
/// as [`Error`](crate::Error), tonic's generated clients would turn every rejection into `UNKNOWN`.
pub fn status<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Status {
    Status::from_error(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const MS_1500: Duration = Duration::from_millis(1500);

    #[test]
    fn every_kind_becomes_its_code_and_can_be_found_again() {
        let kinds = [
            (Kind::RateLimited, Code::ResourceExhausted),
            (Kind::Overloaded, Code::ResourceExhausted),
            (Kind::Throttled, Code::ResourceExhausted),
            (Kind::CircuitOpen, Code::Unavailable),
            (Kind::NotReady, Code::Unavailable),
            (Kind::LoadFailed, Code::Unavailable),
            (Kind::TimedOut, Code::DeadlineExceeded),
            (Kind::DeadlineExceeded, Code::DeadlineExceeded),
        ];
        assert_eq!(kinds.len(), Kind::ALL.len());
        for (kind, code) in kinds {
            let rejected = Rejected::new(kind, "orders");
            let status = Status::from(rejected);
            assert_eq!(
                (status.code(), status.as_rejected()),
                (code, Some(&rejected))
            );
            assert!(status.message().starts_with("orders: "));
            assert!(status.metadata().get(PUSHBACK).is_none());
            assert_eq!(status.metadata().get(REJECTED_NAME).unwrap(), token(kind));

            let status = Status::from(rejected.with_retry_after(MS_1500));
            assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "1500");
        }
        assert!(Status::unknown("server's").as_rejected().is_none());
    }

    #[test]
    fn the_answer_is_trailers_only() {
        let rejected = Rejected::new(Kind::CircuitOpen, "straße \n").with_retry_after(MS_1500);
        let response: Response<String> = Grpc.respond(rejected);
        assert_eq!(
            (response.status().as_u16(), response.body().len()),
            (200, 0)
        );
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()[PUSHBACK], "1500");
        assert_eq!(response.extensions().get(), Some(&rejected));
        let read = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(read.message(), rejected.to_string());
    }
}
