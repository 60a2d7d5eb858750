//! Calls that end with their trailers.

use super::{
    CodesAsFailures,
    classify::{head, trailers},
};
use crate::{
    classify::{Classify, Outcome},
    guard::{CallGuard, End, GuardBase, Settle, SharedGuard, Strategy},
    http::{BodyEnd, GuardedBody, hold},
};
use http::{HeaderMap, Response};
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
/// stream that was read for an hour must not look like a call that hung for an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTrailers<C = CodesAsFailures>(pub C);

impl<C> Strategy for OnTrailers<C> {}

/// What the head of a gRPC response says about how the call went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrpcHead {
    /// The outcome: the head holds the status, or the response is not gRPC.
    Said(Outcome),
    /// Nothing yet, because the status comes in the trailers.
    InTrailers,
}

impl<C: Classify<(), Status>> BodyEnd for OnTrailers<C> {
    type Head = GrpcHead;

    #[inline]
    fn ended(&self, head: GrpcHead, headers: Option<&HeaderMap>) -> Outcome {
        match head {
            GrpcHead::Said(outcome) => outcome,
            GrpcHead::InTrailers => headers
                .and_then(|headers| trailers(&self.0, headers))
                .unwrap_or(Outcome::Failure),
        }
    }

    #[inline]
    fn begun(&self, head: GrpcHead, read: bool) -> Option<Outcome> {
        match head {
            GrpcHead::Said(outcome) => Some(outcome),
            GrpcHead::InTrailers => read.then_some(Outcome::Success),
        }
    }

    #[inline]
    fn dropped(&self, head: GrpcHead, read: bool) -> End {
        match head {
            GrpcHead::Said(outcome) => End::Done(outcome),
            GrpcHead::InTrailers if read => End::Done(Outcome::Ignored),
            GrpcHead::InTrailers => End::Cancelled,
        }
    }
}

impl<B, E, C> Settle<Response<B>, E> for OnTrailers<C>
where
    B: Body,
    C: Classify<(), Status>,
{
    type Response<G: GuardBase> = Response<GuardedBody<B, G, Self>>;

    #[inline]
    fn settle<G: GuardBase>(
        held: &mut CallGuard<SharedGuard<G, Self>>,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response<G>, E> {
        match result {
            Ok(response) => {
                let judge = |settle: &Self| match head(&settle.0, &response) {
                    Some(outcome) => GrpcHead::Said(outcome),
                    None => GrpcHead::InTrailers,
                };
                let head = held.during(|held| held.strategy().map(judge));
                Ok(hold(held, head, response))
            }
            Err(error) => {
                held.end(End::Done(Outcome::Failure));
                Err(error)
            }
        }
    }
}
