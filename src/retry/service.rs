//! The layer, and the service that it builds.

use super::{CloneRequest, Pushback, Replay, Retry, RetryFuture};
use crate::{
    classify::Classify,
    error::FromRejected,
    guard::{AnyStrategy, ByRequest, OnResponse, StrategyFor, Unclassified},
    shared::Shared,
};
use std::{
    fmt,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// What a layer and its services share: the policy, how requests are made again, and what a failure
/// is.
pub(super) struct LayerState<R, C> {
    pub(super) retry: Retry,
    pub(super) replay: R,
    pub(super) classifier: C,
}

/// A tower layer that repeats failed calls, made by [`Retry::layer`].
///
/// The inner service must be `Clone`: a call that may be repeated keeps a clone for its further
/// attempts, and each of these waits until that clone is ready, or until the call's deadline. With
/// no deadline this wait has no bound but that of a timeout further in.
pub struct RetryLayer<R = CloneRequest, C = Unclassified> {
    layer: Shared<LayerState<R, C>>,
}

impl RetryLayer {
    pub(super) fn new(retry: Retry) -> Self {
        Self::of(LayerState {
            retry,
            replay: CloneRequest,
            classifier: Unclassified,
        })
    }
}

impl<R: Send + Sync + 'static, C: Send + Sync + 'static> RetryLayer<R, C> {
    fn of(layer: LayerState<R, C>) -> Self {
        Self {
            layer: Shared::new(layer),
        }
    }

    /// Sets the classifier that says what a failure is.
    /// [`ErrorsAsFailures`](crate::ErrorsAsFailures) takes every `Err` for one.
    pub fn classify<C2: Send + Sync + 'static>(
        self,
        classifier: C2,
    ) -> RetryLayer<R, OnResponse<C2>>
    where
        R: Clone,
    {
        RetryLayer::of(LayerState {
            retry: self.layer.retry.clone(),
            replay: self.layer.replay.clone(),
            classifier: OnResponse(classifier),
        })
    }

    /// Sets a closure that makes the classifier of each call from its request: for results that
    /// mean one thing for one path or method, and another for another. It is called once for each
    /// call, before its first attempt.
    ///
    /// ```
    /// # #[cfg(feature = "http")] {
    /// use buttress::{Classify, Error, Outcome, http::ServerErrorsAsFailures, retry::Retry};
    /// use http::{Request, Response, StatusCode};
    /// use std::io;
    ///
    /// // A key that was written a moment ago may not be there yet; any other is not there.
    /// let layer = Retry::new("store").layer().http().classify_by(|request: &Request<String>| {
    ///     let is_new = request.headers().contains_key("x-just-written");
    ///     move |result: Result<&Response<String>, &Error<io::Error>>| match result {
    ///         Ok(response) if is_new && response.status() == StatusCode::NOT_FOUND => {
    ///             Outcome::Failure
    ///         }
    ///         result => ServerErrorsAsFailures.classify(result),
    ///     }
    /// });
    /// # let _ = layer;
    /// # }
    /// ```
    pub fn classify_by<Req, F, C2>(self, choose: F) -> RetryLayer<R, ByRequest<F, OnResponse<C2>>>
    where
        F: Fn(&Req) -> C2 + Send + Sync + 'static,
        C2: 'static,
        R: Clone,
    {
        RetryLayer::of(LayerState {
            retry: self.layer.retry.clone(),
            replay: self.layer.replay.clone(),
            classifier: ByRequest::new(choose),
        })
    }

    /// Sets the strategy that makes the requests of further attempts. By default [`CloneRequest`],
    /// which clones them.
    pub fn replay<R2: Send + Sync + 'static>(self, replay: R2) -> RetryLayer<R2, C>
    where
        C: Clone,
    {
        RetryLayer::of(LayerState {
            retry: self.layer.retry.clone(),
            replay,
            classifier: self.layer.classifier.clone(),
        })
    }
}

impl<R, C> RetryLayer<R, C> {
    /// Returns a layer of this retry with another strategy and classifier, made from these.
    #[cfg(feature = "http")]
    pub(crate) fn with<R2, C2>(&self, f: impl FnOnce(&R, &C) -> (R2, C2)) -> RetryLayer<R2, C2>
    where
        R2: Send + Sync + 'static,
        C2: Send + Sync + 'static,
    {
        let LayerState {
            retry,
            replay,
            classifier,
        } = &*self.layer;
        let (replay, classifier) = f(replay, classifier);
        RetryLayer::of(LayerState {
            retry: retry.clone(),
            replay,
            classifier,
        })
    }
}

impl<S, R, C: AnyStrategy> Layer<S> for RetryLayer<R, C> {
    type Service = RetryService<S, R, C>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            inner,
            layer: self.layer.clone(),
        }
    }
}

impl<R, C> Clone for RetryLayer<R, C> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
        }
    }
}

impl<R, C> fmt::Debug for RetryLayer<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryLayer")
            .field(&self.layer.retry)
            .finish()
    }
}

/// A service whose failed calls are repeated, built by [`RetryLayer`].
///
/// It is ready when the inner service is. Further attempts use a clone of the inner service, and
/// wait for it to be ready within the call's future.
///
/// # Clone
/// A clone repeats calls under the same policy. The inner service is also cloned for every request
/// that may be sent again.
pub struct RetryService<
    // A client of one body lacks `.map_body(..)`; what else there is, `buttress::check` says.
    S,
    R = CloneRequest,
    C = OnResponse,
> {
    inner: S,
    layer: Shared<LayerState<R, C>>,
}

impl<S, R, C> RetryService<S, R, C> {
    inner_accessors!();
}

impl<S: Clone, R, C> Clone for RetryService<S, R, C> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S: fmt::Debug, R, C> fmt::Debug for RetryService<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryService")
            .field("inner", &self.inner)
            .field("retry", &self.layer.retry)
            .finish()
    }
}

impl<S, Req, R, C> Service<Req> for RetryService<S, R, C>
where
    R: Replay<Req> + Pushback<S::Response, S::Error>,
    S: Service<R::Request> + Clone,
    S::Error: FromRejected,
    C: StrategyFor<Req>,
    C::Strategy: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, R, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let choice = self.layer.classifier.choose(&req);
        let (first, kept) = self.layer.replay.first_request(req);
        // The service that is ready is the one to call. Its clone is not, and is asked before
        // every further attempt.
        let next = kept.map(|kept| (self.inner.clone(), kept));
        // Before the call, so that nothing may panic while its future is on its way.
        let layer = self.layer.clone();
        RetryFuture::begin(self.inner.call(first), next, layer, choice)
    }
}
