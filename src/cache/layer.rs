//! The cache as a tower layer.

use super::{
    core::Core,
    load::Loaded,
    lookup::{AsConfigured, Keep, judge},
    service::CacheService,
    shape::{KeyBuf, Shape, Use},
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

impl<V, St, K, C, P> CacheLayer<V, St, Values<K, C, P>>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// What a load's end means: a stale answer is better than a failure or an overload. Every `Err`
    /// is a failure unless told otherwise.
    #[must_use]
    pub fn classify<C2>(self, classifier: C2) -> CacheLayer<V, St, Values<K, C2, P>> {
        self.map(|Values { key, keep, .. }| Values {
            key,
            classifier,
            keep,
        })
    }

    /// For how long which answers are good: as the cache was configured unless told otherwise.
    #[must_use]
    pub fn freshness<P2: Keep<V>>(self, keep: P2) -> CacheLayer<V, St, Values<K, C, P2>> {
        self.map(
            |Values {
                 key, classifier, ..
             }| Values {
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
pub struct Values<K, C = ErrorsAsFailures, P = AsConfigured> {
    key: K,
    classifier: C,
    keep: P,
}

impl<K> Values<K> {
    pub(super) fn new(key: K, freshness: super::Freshness) -> Self {
        Self {
            key,
            classifier: ErrorsAsFailures,
            keep: AsConfigured(freshness),
        }
    }
}

impl<Req, V, E, K, D, C, P> Shape<Req, V, E> for Values<K, C, P>
where
    V: Clone + Send + Sync + 'static,
    E: Send + 'static,
    K: Fn(&Req) -> Option<D> + Clone + Send + Sync + 'static,
    D: Display + 'static,
    C: Classify<V, E> + Clone + Send + Sync + 'static,
    P: Keep<V> + Clone,
{
    type Value = V;
    type Through = Infallible;
    type Response = V;

    #[inline]
    fn key(&self, req: &Req, key: &mut KeyBuf) -> Use {
        match (self.key)(req) {
            Some(part) if key.push(&part).is_ok() => Use::Lookup,
            // Half a key may be another request's.
            Some(_) | None => Use::Bypass,
        }
    }

    fn judge(
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
    fn bypassed(&self, response: V, _: &'static str, _: Use, _: bool) -> V {
        response
    }
}
