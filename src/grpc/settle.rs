//! Calls that end with their trailers.

use super::{
    CodesAsFailures,
    classify::{head, returned, trailers},
    web::{WebEnd, WebTrailers},
};
use crate::{
    classify::{Classify, Outcome},
    guard::{CallGuard, End, GuardRef, Settle, Strategy, StrategyRef},
    http::{BodyEnd, GrpcType, GuardedBody, ServerErrorsAsFailures, settle_by_head},
};
use bytes::Buf;
use http::{HeaderMap, Response, header};
use http_body::Body;
use tonic::Status;

/// The strategy that ends a call with its trailers, which say how it went, and holds its permit
/// until then.
///
/// The classifier judges the status: it gets `Ok(&())` for `OK`, and `Err(&Status)` for any other.
/// So a closure `|result: Result<&(), &Status>| -> Outcome` will do. An `Err` in place of a
/// response is a failure, and so is a body that ends in an error or without a status.
///
/// If the body is dropped before its trailers, and nothing has been read from it yet, the call was
/// cancelled. If something has been read, the end is ignored: the service was answering, and a
/// stream that was read for an hour must not look like a call that hung for an hour. A limit that
/// cuts the body off while its reader waits for more ends the call in either case: as
/// [`TimedOut`](crate::guard::End::TimedOut), or as cancelled if it was the caller's. It is taken
/// to wait from a poll that found nothing to its next poll.
///
/// A gRPC-Web response (`application/grpc-web`, also with `-text`) has its trailers in the last
/// frame of its body. They are read while the body passes: up to 16 KiB of them are kept, and
/// nothing else. A body whose frames or base64 are broken ends without a status. If the trailers
/// cannot be read, because they are compressed, the end is ignored; a response with another
/// `content-encoding` than `identity` is a success, as its head says.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTrailers<C = CodesAsFailures>(pub C);

impl<C> Strategy for OnTrailers<C> {}

/// What the head of a gRPC response says about how the call went.
#[derive(Debug)]
#[non_exhaustive]
pub enum GrpcHead {
    /// The outcome: the head holds the status, or the response is not gRPC.
    Said(Outcome),
    /// Nothing yet, because the status comes in the trailers.
    InTrailers,
    /// Nothing yet, because the response is gRPC-Web, and the status comes at the end of its body.
    InBody(Box<WebTrailers>),
}

impl GrpcHead {
    /// Returns what the head of this response says.
    fn of<B, C: Classify<(), Status>>(classifier: &C, response: &Response<B>) -> Self {
        match head(classifier, response) {
            Some(outcome) => Self::Said(outcome),
            None => Self::without_status(response.headers()),
        }
    }

    /// Returns where to find the status of a response whose head does not say it.
    fn without_status(headers: &HeaderMap) -> Self {
        let text = match GrpcType::of(headers) {
            Some(GrpcType::Web) => false,
            Some(GrpcType::WebText) => true,
            _ => return Self::InTrailers,
        };
        match headers.get(header::CONTENT_ENCODING) {
            // Compressed as a whole: whoever reads it is not asked to be slower for us.
            Some(coding) if coding != "identity" => Self::Said(Outcome::Success),
            _ => Self::InBody(Box::new(WebTrailers::new(text))),
        }
    }
}

/// Ends a call whose method has returned a rejection by a policy of this process as its status.
#[inline]
fn end_if_returned<B, E, R: GuardRef>(held: &mut CallGuard<R>, result: &Result<Response<B>, E>) {
    if let Ok(response) = result
        && let Some(rejected) = returned(response)
    {
        held.end_rejected(rejected);
    }
}

impl<C: Classify<(), Status>> BodyEnd for OnTrailers<C> {
    type Head = GrpcHead;

    #[inline]
    fn read(&self, head: &mut GrpcHead, data: &impl Buf) -> bool {
        match head {
            GrpcHead::InBody(body) => body.read(data),
            GrpcHead::Said(_) | GrpcHead::InTrailers => false,
        }
    }

    #[inline]
    fn ended(&self, head: &GrpcHead, headers: Option<&HeaderMap>) -> Outcome {
        let headers = match head {
            GrpcHead::Said(outcome) => return *outcome,
            GrpcHead::InTrailers => headers,
            GrpcHead::InBody(body) => match body.end() {
                WebEnd::Trailers(trailers) => Some(trailers),
                WebEnd::Nothing => headers,
                WebEnd::Unreadable => return Outcome::Ignored,
            },
        };
        headers
            .and_then(|headers| trailers(&self.0, headers))
            .unwrap_or(Outcome::Failure)
    }

    #[inline]
    fn begun(&self, head: &GrpcHead, read: bool) -> Option<Outcome> {
        match head {
            GrpcHead::Said(outcome) => Some(*outcome),
            GrpcHead::InTrailers | GrpcHead::InBody(_) => read.then_some(Outcome::Success),
        }
    }

    #[inline]
    fn dropped(&self, head: &GrpcHead, read: bool) -> End {
        match head {
            GrpcHead::Said(outcome) => End::Done(*outcome),
            _ if read => End::Done(Outcome::Ignored),
            _ => End::Cancelled,
        }
    }
}

impl<B, E, C> Settle<Response<B>, E> for OnTrailers<C>
where
    B: Body,
    C: Classify<(), Status>,
{
    type Response<R: StrategyRef<Strategy = Self>> = Response<GuardedBody<B, R>>;

    #[inline]
    fn settle<R: StrategyRef<Strategy = Self>>(
        held: &mut CallGuard<R>,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response<R>, E> {
        end_if_returned(held, &result);
        settle_by_head(held, result, |settle, result| match result {
            Ok(response) => GrpcHead::of(&settle.0, response),
            Err(_) => GrpcHead::Said(Outcome::Failure),
        })
    }
}

/// The strategy for a port on which plain HTTP is served beside gRPC: that of [`OnTrailers`] for
/// responses of gRPC and gRPC-Web, that of [`OnBodyEnd`](crate::http::OnBodyEnd) for all others.
///
/// `layer().auto()` sets it. [`OnTrailers`] takes a response that is not gRPC for one by a proxy,
/// to a call of gRPC; here it is what a route answered, so a 204 is a success, and a 400 the
/// caller's mistake.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnBodyOrTrailers<C = CodesAsFailures, H = ServerErrorsAsFailures> {
    /// The classifier of gRPC's statuses.
    pub grpc: OnTrailers<C>,
    /// The classifier of all other responses, and of errors in place of a response.
    pub http: H,
}

impl<C, H> Strategy for OnBodyOrTrailers<C, H> {}

impl<C: Classify<(), Status>, H> BodyEnd for OnBodyOrTrailers<C, H> {
    type Head = GrpcHead;

    #[inline]
    fn read(&self, head: &mut GrpcHead, data: &impl Buf) -> bool {
        self.grpc.read(head, data)
    }

    #[inline]
    fn ended(&self, head: &GrpcHead, headers: Option<&HeaderMap>) -> Outcome {
        self.grpc.ended(head, headers)
    }

    #[inline]
    fn begun(&self, head: &GrpcHead, read: bool) -> Option<Outcome> {
        self.grpc.begun(head, read)
    }

    #[inline]
    fn dropped(&self, head: &GrpcHead, read: bool) -> End {
        self.grpc.dropped(head, read)
    }
}

impl<B, E, C, H> Settle<Response<B>, E> for OnBodyOrTrailers<C, H>
where
    B: Body,
    C: Classify<(), Status>,
    H: Classify<Response<B>, E>,
{
    type Response<R: StrategyRef<Strategy = Self>> = Response<GuardedBody<B, R>>;

    #[inline]
    fn settle<R: StrategyRef<Strategy = Self>>(
        held: &mut CallGuard<R>,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response<R>, E> {
        end_if_returned(held, &result);
        settle_by_head(held, result, |settle, result| match result {
            Ok(response) if GrpcType::of(response.headers()).is_some() => {
                GrpcHead::of(&settle.grpc.0, response)
            }
            result => GrpcHead::Said(settle.http.classify(result)),
        })
    }
}
