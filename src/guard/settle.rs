//! When a call ends, and what its end means.

use super::{CallGuard, End, GuardBase, held::SharedGuard};
use crate::classify::{Classify, ErrorsAsFailures};

/// What is done with the result of an admitted call.
///
/// [`OnResponse`] ends the call when the response is there; the `http` and `grpc` features add
/// strategies that hold the permit until the response's body has ended.
pub trait Settle<Res, E>: Sized {
    /// What the layer's service answers with.
    type Response<G: GuardBase>;

    /// Ends the call, or takes `held` to where it will end.
    fn settle<G: GuardBase>(
        held: &mut CallGuard<SharedGuard<G, Self>>,
        result: Result<Res, E>,
    ) -> Result<Self::Response<G>, E>;
}

/// The call ends when its response is there, and the classifier says what that means.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResponse<C = ErrorsAsFailures>(pub C);

impl<Res, E, C: Classify<Res, E>> Settle<Res, E> for OnResponse<C> {
    type Response<G: GuardBase> = Res;

    #[inline]
    fn settle<G: GuardBase>(
        held: &mut CallGuard<SharedGuard<G, Self>>,
        result: Result<Res, E>,
    ) -> Result<Res, E> {
        held.end_as(|settle| End::Done(settle.0.classify(result.as_ref())));
        result
    }
}
