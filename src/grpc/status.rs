//! The status that a rejection becomes.

use crate::{
    clock::Time,
    context,
    error::{AsRejected, Kind, Rejected, rejection_in},
    http::{PUSHBACK, REJECTED_NAME, Respond, ServerPushback, token},
};
use http::Response;
use std::{error::Error, sync::Arc, time::Duration};
use tonic::{Code, Status, TimeoutExpired, metadata::MetadataValue};

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
///
/// tonic's channel itself cuts off calls with a `grpc-timeout`, which `Request::set_timeout` sets,
/// and those that take longer than `Endpoint::timeout`. It does not say which of them it was. If
/// the deadline of the [context](crate::context) has come by then, the error is a rejection of
/// [`Kind::DeadlineExceeded`], by whoever chose that deadline; so put an
/// [`http::DeadlineHeaderLayer`](crate::http), which reads `grpc-timeout`, on top of a client's
/// stack. Otherwise it is `CANCELLED`, as in tonic, and a failure: five callers with too short
/// timeouts would open a circuit breaker, and a retry would repeat their calls.
pub fn status<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Status {
    let error = error.into();
    match missed_deadline(&*error) {
        Some(rejected) => Status::from(rejected),
        None => Status::from_error(error),
    }
}

/// What a `grpc-timeout` may be shorter than the deadline that it was made from, up to a day long.
const ROUNDED: Duration = Duration::from_millis(1);

/// Returns the rejection of a call that tonic's channel has cut off at the context's deadline.
fn missed_deadline(error: &(dyn Error + 'static)) -> Option<Rejected> {
    let mut source = Some(error);
    // A chain of sources that is longer than this leads in a circle.
    for _ in 0..64 {
        let error = source?;
        if error.is::<TimeoutExpired>() {
            return deadline_that_has_come();
        }
        source = error.source();
    }
    None
}

fn deadline_that_has_come() -> Option<Rejected> {
    let context = context::current();
    let deadline = context.deadline?;
    let missed = deadline.since(Time::now()) <= ROUNDED;
    let rejected = Rejected::new(Kind::DeadlineExceeded, "grpc-timeout").having_reached_service();
    missed.then(|| match context.limiter.is_caller() {
        true => rejected.by_callers_limit(),
        false => rejected,
    })
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

    #[test]
    fn a_rejection_is_found_among_the_sources_of_a_status_also_if_these_lead_in_a_circle() {
        #[derive(Debug, thiserror::Error)]
        #[error("circle")]
        struct Circle(#[source] &'static Self);
        static CIRCLE: Circle = Circle(&CIRCLE);

        let open = Rejected::new(Kind::CircuitOpen, "db");
        let mut status = Status::unavailable("");
        status.set_source(Arc::new(std::io::Error::other(open)));
        assert_eq!(status.as_rejected(), Some(&open));
        status.set_source(Arc::new(Circle(&CIRCLE)));
        assert_eq!(status.as_rejected(), None);
    }

    #[cfg(feature = "timeout")]
    #[test]
    fn a_timeout_of_tonics_is_the_deadline_that_has_come_and_else_tonics_own() {
        use crate::timeout::Deadline;
        let expired = || status(TimeoutExpired(()));
        let within = |time| Deadline::within(time);
        let own = Deadline::within(Duration::ZERO).enter(expired);
        let rejected = *own.as_rejected().unwrap();
        assert_eq!(own.code(), Code::DeadlineExceeded);
        assert!(rejected.reached_service() && !rejected.is_callers_limit());
        let callers = within(Duration::ZERO).of_caller().enter(expired);
        assert!(callers.as_rejected().unwrap().is_callers_limit());
        for later in [
            within(Duration::from_secs(9)).enter(expired),
            within(Duration::MAX).enter(expired),
            expired(),
        ] {
            assert_eq!(later.code(), Code::Cancelled);
            assert!(later.as_rejected().is_none());
        }
        let other = Deadline::within(Duration::ZERO).enter(|| status("gone"));
        assert_eq!(other.code(), Code::Unknown);
    }
}
