//! The cache as a tower layer.

use super::{
    adapter::{Adapter, Disposition, KeyBuf},
    core::Core,
    loaded::Loaded,
    lookup::{ConfiguredFreshness, FreshnessRule, classify_end},
    service::CacheService,
    status::Cached,
    store::Store,
};
use crate::{
    classify::{Classify, ErrorsAsFailures},
    error::Rejected,
    shared::Shared,
};
use std::{
    convert::Infallible,
    fmt::{self, Display},
    future::{Future, ready},
};
use tower_layer::Layer;

/// A tower layer that answers requests from a [`Cache`](super::Cache), made by
/// [`Cache::layer`](super::Cache::layer).
///
/// The inner service must be `Clone`: every load gets a service of its own.
pub struct CacheLayer<V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    core: Shared<Core<V, St>>,
    adapter: A,
}

impl<V, St, A> CacheLayer<V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    pub(super) fn new(core: Shared<Core<V, St>>, adapter: A) -> Self {
        Self { core, adapter }
    }

    pub(crate) fn map<A2>(self, f: impl FnOnce(A) -> A2) -> CacheLayer<V, St, A2> {
        CacheLayer::new(self.core, f(self.adapter))
    }
}

impl<V, St, K, C, P> CacheLayer<V, St, ValueAdapter<K, C, P>>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// Sets the classifier of loads. A stale answer is returned in place of a failure or an
    /// overload, but not in place of a result that is [`Ignored`](crate::Outcome::Ignored). Every
    /// `Err` is a failure by default.
    ///
    /// It does not see the request, because what it decides is shared by all requests with the same
    /// key.
    #[must_use]
    pub fn classify<C2>(self, classifier: C2) -> CacheLayer<V, St, ValueAdapter<K, C2, P>> {
        self.map(|ValueAdapter { key, keep, .. }| ValueAdapter {
            key,
            classifier,
            keep,
        })
    }

    /// Sets how long each answer is fresh, and how long it may be used when stale, by a closure
    /// from the answer. The default is the cache's [`freshness`](super::CacheBuilder::freshness).
    #[must_use]
    pub fn freshness<P2: FreshnessRule<V>>(
        self,
        keep: P2,
    ) -> CacheLayer<V, St, ValueAdapter<K, C, P2>> {
        self.map(
            |ValueAdapter {
                 key, classifier, ..
             }| ValueAdapter {
                key,
                classifier,
                keep,
            },
        )
    }
}

impl<V, St, A, S> Layer<S> for CacheLayer<V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    A: Clone,
{
    type Service = CacheService<S, V, St, A>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        CacheService::new(inner, self.core.clone(), self.adapter.clone())
    }
}

impl<V, St, A> Clone for CacheLayer<V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    A: Clone,
{
    fn clone(&self) -> Self {
        Self::new(self.core.clone(), self.adapter.clone())
    }
}

impl<V, St, A> fmt::Debug for CacheLayer<V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheLayer").field(&self.core.name).finish()
    }
}

/// The adapter of [`Cache::layer`](super::Cache::layer), which stores responses as they are, and
/// clones them.
#[derive(Clone, Copy, Debug)]
pub struct ValueAdapter<K, C = ErrorsAsFailures, P = ConfiguredFreshness> {
    key: K,
    classifier: C,
    keep: P,
}

impl<K> ValueAdapter<K> {
    pub(super) fn new(key: K, freshness: super::Freshness) -> Self {
        Self {
            key,
            classifier: ErrorsAsFailures,
            keep: ConfiguredFreshness(freshness),
        }
    }
}

#[diagnostic::do_not_recommend]
impl<Req, V, E, K, D, C, P> Adapter<Req, V, E> for ValueAdapter<K, C, P>
where
    V: Clone + Send + Sync + 'static,
    E: Send + 'static,
    K: Fn(&Req) -> Option<D> + Clone + Send + Sync + 'static,
    D: Display + 'static,
    C: Classify<V, E> + Clone + Send + Sync + 'static,
    P: FreshnessRule<V> + Clone,
{
    type Value = V;
    type Uncacheable = Infallible;
    type Response = V;

    #[inline]
    fn key(&self, req: &Req, key: &mut KeyBuf) -> Disposition {
        match (self.key)(req) {
            Some(part) if key.push(&part).is_ok() => Disposition::Lookup,
            // Half a key may be another request's.
            Some(_) | None => Disposition::Bypass,
        }
    }

    fn classify(
        &self,
        result: Result<V, E>,
        rejected: Option<Rejected>,
    ) -> impl Future<Output = Loaded<V, Infallible, E>> + Send {
        ready(classify_end(result, rejected, &self.classifier, &self.keep))
    }

    fn succeeded(&self, result: Result<&V, &E>) -> bool {
        use crate::Outcome;
        matches!(self.classifier.classify(result), Outcome::Success)
    }

    #[inline]
    fn cached(&self, cached: Cached<V>) -> V {
        cached.value
    }

    fn uncacheable(&self, response: Infallible, _: &'static str) -> V {
        match response {}
    }

    #[inline]
    fn bypassed(&self, response: V, _: &'static str, _: Disposition, _: bool) -> V {
        response
    }
}
