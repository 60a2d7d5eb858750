//! When a call ends, and what its end means.

use super::{CallGuard, End, GuardBase, call_guard::SharedGuard};
use crate::classify::{Classify, ErrorsAsFailures};

/// A strategy that decides when an admitted call has ended, and what that means.
///
/// [`OnResponse`] ends the call when the response is there. `http::OnBodyEnd` and
/// `grpc::OnTrailers` hold its permit until the response's body has ended. Another strategy, not
/// another service, is what a protocol of its own needs.
pub trait Settle<Res, E>: Sized {
    /// The response of a service with this strategy: the inner service's, or that with a permit
    /// inside.
    type Response<G: GuardBase>;

    /// Ends the call, or [takes](CallGuard::take) the permit to where it will end.
    ///
    /// A `call` that is left as it is counts as cancelled. It may have ended already, as a
    /// rejection by a policy below; then its [`strategy`](CallGuard::strategy) is `None`.
    fn settle<G: GuardBase>(
        call: &mut CallGuard<SharedGuard<G, Self>>,
        result: Result<Res, E>,
    ) -> Result<Self::Response<G>, E>;
}

/// The strategy of calls that end when their response is there, as this classifier judges it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResponse<C = ErrorsAsFailures>(pub C);

impl<Res, E, C: Classify<Res, E>> Settle<Res, E> for OnResponse<C> {
    type Response<G: GuardBase> = Res;

    #[inline]
    fn settle<G: GuardBase>(
        call: &mut CallGuard<SharedGuard<G, Self>>,
        result: Result<Res, E>,
    ) -> Result<Res, E> {
        call.end_as(|settle| End::Done(settle.0.classify(result.as_ref())));
        result
    }
}
