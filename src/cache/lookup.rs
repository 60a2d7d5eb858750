//! The cache around any load: no tower, no request.

use super::{
    Cache, background,
    freshness::Freshness,
    key::KeyRef,
    load,
    loaded::{Answered, Failure, Load, Loaded, LoadedWith},
    status::Cached,
    store::Store,
};
use crate::{
    classify::{Classify, ErrorsAsFailures},
    clock::Now,
    error::{FromRejected, KeptRefusal, RefusalMark, Rejected},
};
use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Poll, ready},
};

/// A rule that says whether an answer is stored, and how long it is fresh.
///
/// A closure from the answer is one. It returns `None` for what is not to be stored.
#[doc(alias = "expiry")]
#[doc(alias = "ttl")]
pub trait FreshnessRule<V>: Send + Sync + 'static {
    /// Returns how long this answer is fresh, and how long it may be used when stale, or `None` if
    /// it is not to be stored.
    fn keep(&self, value: &V) -> Option<Freshness>;
}

impl<V, F: Fn(&V) -> Option<Freshness> + Send + Sync + 'static> FreshnessRule<V> for F {
    fn keep(&self, value: &V) -> Option<Freshness> {
        self(value)
    }
}

/// The rule that gives every answer the freshness that the cache was configured with.
#[derive(Clone, Copy, Debug)]
pub struct ConfiguredFreshness(pub(super) Freshness);

impl<V> FreshnessRule<V> for ConfiguredFreshness {
    #[inline]
    fn keep(&self, _: &V) -> Option<Freshness> {
        Some(self.0)
    }
}

/// A lookup in a [`Cache`] that has not been run yet, begun by [`Cache::lookup`].
#[must_use = "it does nothing until it is run"]
pub struct Lookup<'a, V, St, C = ErrorsAsFailures, P = ConfiguredFreshness>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    cache: &'a Cache<V, St>,
    key: KeyRef<'a>,
    classifier: C,
    keep: P,
}

impl<'a, V, St> Lookup<'a, V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    pub(super) fn new(cache: &'a Cache<V, St>, key: KeyRef<'a>) -> Self {
        Self {
            cache,
            key,
            classifier: ErrorsAsFailures,
            keep: ConfiguredFreshness(cache.0.freshness),
        }
    }
}

impl<'a, V, St, C, P> Lookup<'a, V, St, C, P>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// Sets the classifier of the load. A stale answer is returned in place of a failure or an
    /// overload, but not in place of an error that is [`Ignored`](crate::Outcome::Ignored), which
    /// is the caller's own mistake. Every `Err` is a failure by default.
    pub fn classify<C2>(self, classifier: C2) -> Lookup<'a, V, St, C2, P> {
        Lookup {
            cache: self.cache,
            key: self.key,
            classifier,
            keep: self.keep,
        }
    }

    /// Sets how long the answer is fresh, and how long it may be used when stale, by a closure from
    /// the answer. So the answer that something does not exist (`Ok(None)`), for example, can be
    /// kept for a shorter time. The default is the cache's
    /// [`freshness`](super::CacheBuilder::freshness).
    pub fn freshness<P2: FreshnessRule<V>>(self, keep: P2) -> Lookup<'a, V, St, C, P2> {
        Lookup {
            cache: self.cache,
            key: self.key,
            classifier: self.classifier,
            keep,
        }
    }

    /// Returns the fresh answer from the store, or else loads it; if the load fails, returns a
    /// stale answer if there is one.
    ///
    /// The load may go on in the background after this has returned a stale answer, so it must own
    /// what it uses. If this future is dropped while it loads, a call that waits for the same key
    /// loads instead.
    ///
    /// # Errors
    /// What the load failed with, if there is no stale answer. A call that shared another call's
    /// load gets a [`Rejected`]: the one that the load failed with, or one of the kind
    /// [`LoadFailed`](crate::Kind::LoadFailed).
    // `Send` by its own word: were the compiler to find out from the body, where this is used, it
    // would ask for more of a boxed error than that is ("not general enough").
    pub fn run<E, F, Fut>(self, load: F) -> impl Future<Output = Result<Cached<V>, E>> + Send
    where
        E: FromRejected + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        C: Classify<V, E> + Send + 'static,
        P: FreshnessRule<V>,
    {
        self.run_load(load)
    }

    async fn run_load<E, F, Fut>(self, load: F) -> Result<Cached<V>, E>
    where
        E: FromRejected + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        C: Classify<V, E> + Send + 'static,
        P: FreshnessRule<V>,
    {
        let core = &self.cache.0;
        let load = Once {
            load,
            classifier: self.classifier,
            keep: self.keep,
        };
        let now = Now::lazy();
        if let Some(hit) = core.store_client.store.peek(self.key, &now) {
            core.counters.add(|c| &c.fresh);
            if core.refresh_is_due(&hit, now.get()) {
                let (core, key) = (core.clone(), self.key.to_owned());
                background::spawn(load::refresh(core, key, load));
            }
            return Ok(core.hit(hit, now.get()));
        }
        match load::answer(core.clone(), self.key.to_owned(), load).await {
            Ok(Answered::Cached(cached)) => Ok(cached),
            Ok(Answered::Uncacheable(never)) => match never {},
            Err(error) => Err(error),
        }
    }
}

impl<V, St, C, P> fmt::Debug for Lookup<'_, V, St, C, P>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("cache", &self.cache.name())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A closure that loads.
struct Once<F, C, P> {
    load: F,
    classifier: C,
    keep: P,
}

impl<V, E, F, Fut, C, P> Load<V> for Once<F, C, P>
where
    V: Send + 'static,
    E: FromRejected + Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    C: Classify<V, E> + Send + 'static,
    P: FreshnessRule<V>,
{
    type Uncacheable = Infallible;
    type Error = E;

    async fn load(self) -> LoadedWith<V, Self> {
        let (result, kept) = watched((self.load)()).await;
        let rejected = kept.map(KeptRefusal::rejected);
        let loaded = classify_end(result, rejected, &self.classifier, &self.keep);
        (loaded, kept)
    }
}

/// Returns what a load's end means.
pub(super) fn classify_end<V, T, E>(
    result: Result<V, E>,
    rejected: Option<Rejected>,
    classifier: &impl Classify<V, E>,
    keep: &impl FreshnessRule<V>,
) -> Loaded<V, T, E> {
    let unwell = rejected.is_some() || {
        let outcome = classifier.classify(result.as_ref());
        outcome.is_unwell()
    };
    match result {
        Ok(value) if unwell => Loaded::Failed(Failure::Answer(value)),
        Ok(value) => {
            let freshness = keep.keep(&value);
            Loaded::Answer(value, freshness)
        }
        Err(error) => Loaded::Failed(Failure::Error {
            error,
            unwell,
            rejected,
        }),
    }
}

/// Runs a load, and returns its result with the rejection by a policy further in that its error is.
/// That is found out now, since what comes of it is decided some polls later.
pub(super) async fn watched<T, E: 'static>(
    call: impl Future<Output = Result<T, E>>,
) -> (Result<T, E>, Option<KeptRefusal>) {
    let mut call = pin!(call);
    poll_fn(|cx| {
        let mark = RefusalMark::set();
        let result = ready!(call.as_mut().poll(cx));
        let kept = match &result {
            Ok(_) => None,
            Err(error) => mark.rejection(error).map(KeptRefusal::new),
        };
        mark.forget();
        Poll::Ready((result, kept))
    })
    .await
}
