//! The cache as a tower layer.

use super::{
    core::Core,
    load::Loaded,
    lookup::{ConfiguredFreshness, FreshnessRule, judge},
    service::CacheService,
    shape::{Adapter, Disposition, KeyBuf},
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

/// A [`Cache`](super::Cache) as a tower layer.
pub struct CacheLayer<V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    core: Shared<Core<V, St>>,
    shape: Sh,
}

impl<V, St, Sh> CacheLayer<V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    pub(super) fn new(core: Shared<Core<V, St>>, shape: Sh) -> Self {
        Self { core, shape }
    }

    pub(crate) fn map<Sh2>(self, f: impl FnOnce(Sh) -> Sh2) -> CacheLayer<V, St, Sh2> {
        CacheLayer::new(self.core, f(self.shape))
    }
}

impl<V, St, K, C, P> CacheLayer<V, St, ValueAdapter<K, C, P>>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// What a load's end means: a stale answer is better than a failure or an overload. Every `Err`
    /// is a failure unless told otherwise.
    #[must_use]
    pub fn classify<C2>(self, classifier: C2) -> CacheLayer<V, St, ValueAdapter<K, C2, P>> {
        self.map(|ValueAdapter { key, keep, .. }| ValueAdapter {
            key,
            classifier,
            keep,
        })
    }

    /// For how long which answers are good: as the cache was configured unless told otherwise.
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

impl<V, St, Sh, S> Layer<S> for CacheLayer<V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    Sh: Clone,
{
    type Service = CacheService<S, V, St, Sh>;

    #[inline]
    fn layer(&self, inner: S) -> Self::Service {
        CacheService::new(inner, self.core.clone(), self.shape.clone())
    }
}

impl<V, St, Sh> Clone for CacheLayer<V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    Sh: Clone,
{
    fn clone(&self) -> Self {
        Self::new(self.core.clone(), self.shape.clone())
    }
}

impl<V, St, Sh> fmt::Debug for CacheLayer<V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheLayer").field(&self.core.name).finish()
    }
}

/// Responses that are their own answers: they are cloned.
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
        ready(judge(result, rejected, &self.classifier, &self.keep))
    }

    fn succeeded(&self, result: Result<&V, &E>) -> bool {
        use crate::Outcome;
        matches!(self.classifier.classify(result), Outcome::Success)
    }

    #[inline]
    fn cached(&self, cached: Cached<V>) -> V {
        cached.value
    }

    fn through(&self, through: Infallible, _: &'static str) -> V {
        match through {}
    }

    #[inline]
    fn bypassed(&self, response: V, _: &'static str, _: Disposition, _: bool) -> V {
        response
    }
}
