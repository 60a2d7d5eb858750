//! A store behind a timeout, a breaker and a retry: it may help, but not keep anybody waiting.

use super::{
    background,
    freshness::Entry,
    key::EntryKey,
    lease_guard::LeaseGuard,
    store::{AcquireOptions, Acquired, Fill, InvalidationMode, Store, StoreError},
};
use crate::{
    circuit_breaker::{CircuitBreaker, State},
    clock::Time,
    context::{self, Context, Limiter},
    error::{Kind, Rejected, waiting},
    retry::Retry,
    timeout::Timeout,
};
use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

/// Boxed: a question to the store is not a hot path, and whether it can be sent to another thread
/// has to be settled here, where the compiler knows for how long everything lives.
type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store with a timeout, a breaker and a retry of its own.
#[derive(Debug)]
pub(super) struct StoreClient<St> {
    pub(super) store: Arc<St>,
    pub(super) breaker: CircuitBreaker,
    pub(super) timeout: Timeout,
    pub(super) retry: Retry,
}

impl<St> Clone for StoreClient<St> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            breaker: self.breaker.clone(),
            timeout: self.timeout.clone(),
            retry: self.retry.clone(),
        }
    }
}

impl<St: Send + Sync + 'static> StoreClient<St> {
    /// Asks until the store answers or there are no attempts left. The timeout is around all of
    /// them: no call waits for longer, however many there are.
    fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(Arc<St>) -> StoreFuture<'static, T> + Send + Sync + 'static,
    ) -> StoreFuture<'_, T> {
        let store = Arc::clone(&self.store);
        let attempts = self.retry.run(move || ask(Arc::clone(&store)));
        Box::pin(self.ask_once(attempts))
    }

    /// Asks once, within the timeout and through the breaker. A lease that is given away, or an
    /// answer that is handed over, is there for one attempt only.
    async fn ask_once<T, F>(&self, ask: F) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        // Nothing of this begins before it is polled, so a breaker that is open keeps it all out.
        let timed = self.timeout.run(move || ask);
        let answered = async move {
            match timed.await {
                // It is the answer that is unfit, and not the store.
                Err(unfit @ StoreError::Codec(_)) => Ok(Err(unfit)),
                Err(error) => Err(error),
                Ok(told) => Ok(Ok(told)),
            }
        };
        // What is behind a cache is not slow because its store is.
        waiting(self.breaker.run(move || answered)).await?
    }

    pub(super) fn acquire<'a, V: Send + 'static>(
        &'a self,
        key: &'a EntryKey,
        ask: AcquireOptions,
    ) -> StoreFuture<'a, Acquired<V, St::Lease>>
    where
        St: Store<V>,
    {
        if let Some(open) = self.half_open_probe::<V>(key) {
            return Box::pin(ready(Err(open)));
        }
        let key = key.clone();
        with_half_deadline(self.ask(move |store| {
            let key = key.clone();
            Box::pin(async move { store.acquire(&key, ask).await })
        }))
    }

    pub(super) fn fill<'a, V: Send + 'static>(
        &'a self,
        key: &'a EntryKey,
        lease: &'a St::Lease,
        fill: Fill<V>,
    ) -> StoreFuture<'a, bool>
    where
        St: Store<V>,
    {
        without_deadline(self.ask_once(self.store.fill(key, lease, fill)))
    }

    /// Returns a lease that gives itself back.
    pub(super) fn guard<V>(
        &self,
        key: &EntryKey,
        lease: St::Lease,
        known: Option<Entry<V>>,
    ) -> LeaseGuard<V, St>
    where
        St: Store<V>,
    {
        LeaseGuard::new(&self.store, self.timeout.limit(), key, lease, known)
    }

    pub(super) fn release<'a, V: 'static>(
        &'a self,
        key: &'a EntryKey,
        lease: St::Lease,
    ) -> StoreFuture<'a, ()>
    where
        St: Store<V>,
    {
        without_deadline(self.ask_once(self.store.release(key, lease)))
    }

    pub(super) fn look<'a, V: Send + 'static>(
        &'a self,
        key: &'a EntryKey,
    ) -> StoreFuture<'a, Option<Entry<V>>>
    where
        St: Store<V>,
    {
        if let Some(open) = self.half_open_probe::<V>(key) {
            return Box::pin(ready(Err(open)));
        }
        with_half_deadline(self.look_anyway(key))
    }

    fn look_anyway<V: Send + 'static>(&self, key: &EntryKey) -> StoreFuture<'_, Option<Entry<V>>>
    where
        St: Store<V>,
    {
        let key = key.clone();
        self.ask(move |store| {
            let key = key.clone();
            Box::pin(async move { store.look(&key).await })
        })
    }

    /// Makes the breaker's probe in the background, if it is time for it, so that no reader waits
    /// for the timeout of a store that may still hang. Returns the error to go on with, or `None`
    /// if the store may be asked.
    fn half_open_probe<V: Send + 'static>(&self, key: &EntryKey) -> Option<StoreError>
    where
        St: Store<V>,
    {
        if self.breaker.state() != State::HalfOpen {
            return None;
        }
        let (client, key) = (self.clone(), key.clone());
        background::spawn(async move {
            let _ = client.look_anyway::<V>(&key).await;
        });
        Some(Rejected::new(Kind::CircuitOpen, self.breaker.name()).into())
    }

    pub(super) fn invalidate<'a, V: 'static>(
        &'a self,
        key: &'a EntryKey,
        mode: InvalidationMode,
    ) -> StoreFuture<'a, ()>
    where
        St: Store<V>,
    {
        let key = key.clone();
        without_deadline(self.ask(move |store| {
            let key = key.clone();
            Box::pin(async move { store.invalidate(&key, mode).await })
        }))
    }

    pub(super) fn invalidate_tag<'a, V: 'static>(
        &'a self,
        tag: &'a str,
        mode: InvalidationMode,
    ) -> StoreFuture<'a, ()>
    where
        St: Store<V>,
    {
        let tag: Arc<str> = tag.into();
        without_deadline(self.ask(move |store| {
            let tag = Arc::clone(&tag);
            Box::pin(async move { store.invalidate_tag(&tag, mode).await })
        }))
    }

    /// Whether the breaker is open, or half open: then no reader waits for the store.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.snapshot().state != State::Closed
    }
}

/// Runs this without the caller's deadline. What the store is told concerns all callers: that the
/// one who tells it has no more time is no reason to leave an outdated answer, or a lease, there.
fn without_deadline<'a, T>(
    tell: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> StoreFuture<'a, T> {
    Box::pin(async move {
        let context = Context {
            deadline: None,
            ..context::current()
        };
        context.scope(tell).await
    })
}

/// Runs this with half of the time that the caller has left. The store is asked to save time; the
/// other half is for the load, if it does not answer.
fn with_half_deadline<'a, T>(
    ask: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> StoreFuture<'a, T> {
    Box::pin(async move {
        let now = Time::now();
        let context = context::current();
        let half = |at: Time| now.after(at.since(now) / 2);
        let context = Context {
            deadline: context.deadline.map(half),
            // The store's own limit is its timeout.
            limiter: Limiter::CALLER,
            ..context
        };
        context.scope(ask).await
    })
}
