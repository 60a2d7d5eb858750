//! When a call ends, and what its end means.

use super::{CallGuard, End, StrategyRef};
use crate::classify::{Classify, ErrorsAsFailures, Outcome};

/// A marker of strategies: of types that say what responses mean, and when a call has ended.
///
/// A layer that learns from how calls end does not guess what a response means: an `http::Response`
/// with the status 500 is an `Ok` like any other. So the layer is not a tower `Layer` before it has
/// been told, by `.http()`, `.grpc()`, `.classify(classifier)` or `.settle(strategy)`. Until then
/// its strategy is [`Unclassified`], which does not implement this trait.
///
/// A strategy of your own implements this trait and [`Settle`].
pub trait Strategy: Sized {}

/// The strategy of a layer that has not been told what responses mean: see [`Strategy`].
// rustc names a type that lacks a trait by the line that defines it, where it says nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unclassified; // say `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)` to the layer

/// A strategy that decides when an admitted call has ended, and what that means.
///
/// [`OnResponse`] ends the call when the response is there. `http::OnBodyEnd` and
/// `grpc::OnTrailers` hold its permit until the response's body has ended. For another protocol,
/// implement another strategy; the services stay the same.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell what a `Result<{Res}, {E}>` means",
    label = "a layer of this stack does not know which of these are failures",
    note = "add `.http()` to the layer for services that answer with `http::Response` (axum, hyper, reqwest)",
    note = "add `.grpc()` for tonic's servers and clients",
    note = "reqwest answers with its own type: put `.map_response(http::Response::<reqwest::Body>::from)` below the layer",
    note = "add `.classify(ErrorsAsFailures)` where every `Err` is a failure and every `Ok` a success",
    note = "or `.classify(classifier)` with a closure `|result: Result<&Response, &Error>| -> Outcome`"
)]
pub trait Settle<Res, E>: Strategy {
    /// The response of a service with this strategy: the inner service's own, or a wrapper around
    /// it that holds the permit.
    type Response<R: StrategyRef<Strategy = Self>>;

    /// Ends the call, or [takes](CallGuard::take) it to where it will end.
    ///
    /// A `call` that is neither ended nor taken counts as cancelled. It may have ended already, if
    /// a policy further in rejected it; then its [`strategy`](CallGuard::strategy) is `None`.
    fn settle<R: StrategyRef<Strategy = Self>>(
        call: &mut CallGuard<R>,
        result: Result<Res, E>,
    ) -> Result<Self::Response<R>, E>;
}

/// The strategy that ends a call when its response is there, with the outcome that this classifier
/// gives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnResponse<C = ErrorsAsFailures>(pub C);

impl<C> Strategy for OnResponse<C> {}

impl<C> From<C> for OnResponse<C> {
    #[inline]
    fn from(classifier: C) -> Self {
        Self(classifier)
    }
}

impl<Res, E, C: Classify<Res, E>> Classify<Res, E> for OnResponse<C> {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        self.0.classify(result)
    }
}

impl<Res, E, C: Classify<Res, E>> Settle<Res, E> for OnResponse<C> {
    type Response<R: StrategyRef<Strategy = Self>> = Res;

    // Always: for an answer that goes well it is next to nothing, and would be handed the answer
    // in memory.
    #[inline(always)]
    fn settle<R: StrategyRef<Strategy = Self>>(
        call: &mut CallGuard<R>,
        result: Result<Res, E>,
    ) -> Result<Res, E> {
        call.end_as(|settle| End::Done(settle.0.classify(result.as_ref())));
        result
    }
}
