//! What the reader of a body is told that was cut off.

use crate::{
    error::{AsRejected, Rejected},
    http::content_type::GrpcType,
    timeout::{Deadline, DeadlineLayer, Timeout},
};
use http::{HeaderMap, HeaderValue};
use std::{error, fmt, fmt::Write};

/// The limit that a body has missed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum BodyLimit {
    /// The deadline of the call.
    Deadline,
    /// The timeout of the attempt, where it holds for the whole body.
    Whole,
    /// The longest time without data, while they were waited for.
    Idle,
    /// The minimum of bytes per second.
    Rate,
}

impl BodyLimit {
    /// Returns what the body did not do, in words.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "the body had not ended by the deadline",
            Self::Whole => "the body had not ended in time",
            Self::Idle => "nothing came of the body for too long",
            Self::Rate => "the body came too slowly",
        }
    }
}

/// The error that a body ends with when it is cut off by a limit of this crate.
///
/// Bodies have boxed errors. This one is found in them by [`AsRejected`], which finds the
/// [`Rejected`] in it, or by `downcast_ref::<BodyCut>()`, on the way down `source()`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyCut {
    rejected: Rejected,
    limit: BodyLimit,
}

impl BodyCut {
    pub(super) const fn new(rejected: Rejected, limit: BodyLimit) -> Self {
        Self { rejected, limit }
    }

    /// Returns which limit it was.
    pub const fn limit(&self) -> BodyLimit {
        self.limit
    }

    /// Returns which policy it was, and why.
    pub const fn rejected(&self) -> Rejected {
        self.rejected
    }

    /// Returns the trailers that tell a gRPC client of it.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(3);
        crate::http::mark(&mut trailers, self.rejected.kind());
        // DEADLINE_EXCEEDED
        trailers.insert("grpc-status", HeaderValue::from_static("4"));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&self.to_string())) {
            trailers.insert("grpc-message", message);
        }
        trailers
    }
}

impl AsRejected for BodyCut {
    fn as_rejected(&self) -> Option<&Rejected> {
        Some(&self.rejected)
    }
}

impl fmt::Display for BodyCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rejected.policy(), self.limit.as_str())
    }
}

impl error::Error for BodyCut {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.rejected)
    }
}

/// Encodes a message for `grpc-message` ("gRPC over HTTP2", Status-Message).
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Returns whether the response ends in gRPC's trailers. gRPC-Web has its trailers in the body.
pub(super) fn has_grpc_trailers(headers: &HeaderMap) -> bool {
    GrpcType::of(headers) == Some(GrpcType::Grpc)
}

/// The policy whose limits a body keeps to, and which counts what it cuts off.
#[derive(Clone, Debug)]
pub(super) enum LimitOwner {
    Timeout(Timeout),
    Deadline(DeadlineLayer),
}

impl LimitOwner {
    /// Counts and returns what the reader of a body is told that has missed this limit.
    #[cold]
    pub(super) fn cut(&self, limit: BodyLimit, deadline: Deadline) -> BodyCut {
        let rejected = match (self, limit) {
            (Self::Timeout(timeout), BodyLimit::Deadline) => timeout.too_late(deadline),
            (Self::Timeout(timeout), _) => timeout.timed_out(),
            (Self::Deadline(layer), _) => layer.exceeded(deadline),
        };
        BodyCut::new(rejected.having_reached_service(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use http::header::CONTENT_TYPE;

    #[test]
    fn a_rejection_is_found_in_the_boxed_error_of_a_body() {
        let rejected = Rejected::new(Kind::TimedOut, "orders");
        let cut = BodyCut::new(rejected, BodyLimit::Idle);
        let boxed: Box<dyn error::Error + Send + Sync> = cut.into();
        assert_eq!(boxed.as_rejected(), Some(&rejected));
        assert_eq!(
            boxed.to_string(),
            "orders: nothing came of the body for too long"
        );
    }

    #[test]
    fn the_message_of_the_trailers_is_a_header_whatever_the_name_of_the_policy() {
        let rejected = Rejected::new(Kind::TimedOut, "100 % straße\n");
        let trailers = BodyCut::new(rejected, BodyLimit::Whole).trailers();
        assert_eq!(
            trailers["grpc-message"],
            "100 %25 stra%C3%9Fe%0A: the body had not ended in time"
        );
        assert_eq!(trailers["grpc-status"], "4");
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcish", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            assert!(!has_grpc_trailers(&headers));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(has_grpc_trailers(&headers), expected, "{value}");
        }
    }
}
