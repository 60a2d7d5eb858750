//! The cache around a service's calls.

use super::{
    adapter::{Adapter, Disposition, KeyBuf},
    background,
    core::Core,
    key::EntryKey,
    load,
    loaded::{Answered, Load, LoadedWith},
    lookup::watched,
    store::{InvalidationMode, Store},
};
use crate::{
    clock::Now,
    error::{FromRejected, KeptRefusal, waiting},
    shared::Shared,
};
use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};
use tower_service::Service;

/// A service that answers from a [`Cache`](super::Cache), or calls the inner service and stores
/// what it answers. Built by [`CacheLayer`](super::CacheLayer).
///
/// It is always ready: a hit needs no service, and a load waits for the service within its call.
pub struct CacheService<S, V, St, A /* `buttress::check` says why */>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    inner: S,
    core: Shared<Core<V, St>>,
    adapter: A,
}

impl<S, V, St, A> CacheService<S, V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    inner_accessors!();

    pub(super) fn new(inner: S, core: Shared<Core<V, St>>, adapter: A) -> Self {
        Self {
            inner,
            core,
            adapter,
        }
    }
}

impl<S, V, St, A> Clone for CacheService<S, V, St, A>
where
    S: Clone,
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    A: Clone,
{
    #[inline]
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.core.clone(), self.adapter.clone())
    }
}

impl<S: fmt::Debug, V, St, A> fmt::Debug for CacheService<S, V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService")
            .field("inner", &self.inner)
            .field("cache", &self.core.name)
            .finish_non_exhaustive()
    }
}

impl<S, Req, V, St, A> Service<Req> for CacheService<S, V, St, A>
where
    S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
    S::Error: FromRejected + Send + 'static,
    Req: Send + 'static,
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    A: Adapter<Req, S::Response, S::Error, Value = V>,
    A::Response: 'static,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = CacheFuture<A::Response, S::Error>;

    /// Returns `Ready` always: a hit needs no service, and a load waits for it within its call.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let (core, now) = (&self.core, Now::lazy());
        let mut buffer = Buffer::lend();
        let buffer = buffer.get();
        match self.adapter.key(&req, buffer) {
            Disposition::Lookup => {}
            Disposition::Bypass => return self.bypass(req),
            Disposition::Invalidate => return self.invalidate(req, buffer),
        }
        let Some(hit) = core.store_client.store.peek(buffer.as_ref(), &now) else {
            return self.miss(req, buffer);
        };
        core.counters.add(|c| &c.fresh);
        if core.refresh_is_due(&hit, now.get()) {
            self.refresh(req, buffer);
        }
        let response = self.adapter.cached(core.hit(hit, now.get()));
        CacheFuture::ready(response)
    }
}

impl<S, V, St, A> CacheService<S, V, St, A>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn load<Req>(&self, req: Req) -> CallOnce<S, Req, A>
    where
        S: Clone,
        A: Clone,
    {
        CallOnce {
            // Nobody has asked this one to be ready; the load does.
            service: self.inner.clone(),
            req,
            adapter: self.adapter.clone(),
        }
    }

    #[cold]
    fn miss<Req>(&self, req: Req, key: &KeyBuf) -> CacheFuture<A::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        A: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        let (load, adapter, name) = (self.load(req), self.adapter.clone(), self.core.name);
        let answer = load::answer(self.core.clone(), key.as_ref().to_owned(), load);
        CacheFuture::loading(async move {
            Ok(match answer.await? {
                Answered::Cached(cached) => adapter.cached(cached),
                Answered::Uncacheable(response) => adapter.uncacheable(response, name),
            })
        })
    }

    #[cold]
    fn refresh<Req>(&self, req: Req, key: &KeyBuf)
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        A: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        let (core, key) = (self.core.clone(), key.as_ref().to_owned());
        background::spawn(load::refresh(core, key, self.load(req)));
    }

    #[cold]
    fn bypass<Req>(&self, req: Req) -> CacheFuture<A::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        A: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        self.core.counters.add(|c| &c.bypassed);
        let (load, name) = (self.load(req), self.core.name);
        CacheFuture::loading(async move {
            let adapter = load.adapter.clone();
            let (result, kept) = load.call().await;
            kept.into_iter().for_each(KeptRefusal::note);
            result.map(|response| adapter.bypassed(response, name, Disposition::Bypass, false))
        })
    }

    #[cold]
    fn invalidate<Req>(&self, req: Req, key: &KeyBuf) -> CacheFuture<A::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        A: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        self.core.counters.add(|c| &c.bypassed);
        let (core, name) = (self.core.clone(), self.core.name);
        let (load, key) = (self.load(req), key.as_ref().to_owned());
        CacheFuture::loading(async move {
            let adapter = load.adapter.clone();
            let write = Write(Some((super::Cache(core), key)));
            let (result, kept) = load.call().await;
            let done = match &result {
                Ok(_) => adapter.succeeded(result.as_ref()),
                // It may have been done, and only its answer be lost.
                Err(_) => kept.is_none_or(|kept| kept.rejected().reached_service()),
            };
            let pending = write.ended(done).await;
            kept.into_iter().for_each(KeptRefusal::note);
            result
                .map(|response| adapter.bypassed(response, name, Disposition::Invalidate, pending))
        })
    }
}

/// A call that may change what is stored, and what that is. Dropped before its end is known, it may
/// have been done all the same: then what is stored is invalidated in the background.
struct Write<V, St>(Option<(super::Cache<V, St>, EntryKey)>)
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>;

impl<V, St> Write<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    /// Whether the store could not be told of what was done.
    async fn ended(mut self, done: bool) -> bool {
        let pending = match &self.0 {
            Some((cache, key)) if done => outdate(cache, key).await,
            _ => false,
        };
        self.0 = None;
        pending
    }
}

impl<V, St> Drop for Write<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn drop(&mut self) {
        if let Some((cache, key)) = self.0.take() {
            background::spawn(async move {
                outdate(&cache, &key).await;
            });
        }
    }
}

/// Invalidates what is under this key; returns whether the store could not be told.
async fn outdate<V, St>(cache: &super::Cache<V, St>, key: &EntryKey) -> bool
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    let told = match key.tag() {
        Some(tag) => cache.invalidate_tag(tag).await,
        None => {
            cache
                .invalidate_entry(key.clone(), InvalidationMode::Drop)
                .await
        }
    };
    told.is_err()
}

/// An empty key to write to, without making one each time: lent by the thread, and given back.
struct Buffer(Option<Box<KeyBuf>>);

thread_local!(static BUFFER: Cell<Option<Box<KeyBuf>>> = const { Cell::new(None) });

impl Buffer {
    #[inline]
    fn lend() -> Self {
        // A key that is made, or an answer that is copied, by calling another cached service finds
        // none here, nor does a call while the thread ends.
        Self(BUFFER.try_with(Cell::take).ok().flatten())
    }

    #[inline]
    fn get(&mut self) -> &mut KeyBuf {
        self.0.get_or_insert_default()
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        // One that is far longer than most is let go.
        if let Some(mut buffer) = self.0.take()
            && buffer.is_small()
        {
            buffer.clear();
            let _ = BUFFER.try_with(|lent| lent.set(Some(buffer)));
        }
    }
}

/// A service to call once, with its request.
struct CallOnce<S, Req, A> {
    service: S,
    req: Req,
    adapter: A,
}

impl<S, Req, A> CallOnce<S, Req, A>
where
    S: Service<Req, Error: 'static>,
{
    async fn call(self) -> (Result<S::Response, S::Error>, Option<KeptRefusal>) {
        let Self {
            mut service, req, ..
        } = self;
        watched(async move {
            // Not cut short by the deadline: whoever keeps to that drops the call, and a leader
            // that is dropped hands its load over, where one that fails would fail its followers.
            waiting(poll_fn(|cx| service.poll_ready(cx))).await?;
            service.call(req).await
        })
        .await
    }
}

impl<S, Req, A> Load<A::Value> for CallOnce<S, Req, A>
where
    S: Service<Req, Response: Send, Future: Send> + Send + 'static,
    S::Error: FromRejected + Send + 'static,
    Req: Send + 'static,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Uncacheable = A::Uncacheable;
    type Error = S::Error;

    async fn load(mut self) -> LoadedWith<A::Value, Self> {
        let adapter = self.adapter.clone();
        adapter.prepare(&mut self.req);
        let (result, kept) = self.call().await;
        let rejected = kept.map(KeptRefusal::rejected);
        (adapter.classify(result, rejected).await, kept)
    }
}

/// The response future of [`CacheService`]. It is ready at once if the answer is at hand.
pub struct CacheFuture<T, E> {
    answer: Option<Result<T, E>>,
    /// A load is not a hot path, and waits for more than an allocation.
    loading: Option<Loading<T, E>>,
}

type Loading<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<T, E> CacheFuture<T, E> {
    #[inline]
    fn ready(answer: T) -> Self {
        Self {
            answer: Some(Ok(answer)),
            loading: None,
        }
    }

    fn loading(load: impl Future<Output = Result<T, E>> + Send + 'static) -> Self {
        Self {
            answer: None,
            loading: Some(Box::pin(load)),
        }
    }
}

// Nothing in it is pinned in place.
impl<T, E> Unpin for CacheFuture<T, E> {}

impl<T, E> Future for CacheFuture<T, E> {
    type Output = Result<T, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => match &mut self.loading {
                Some(load) => load.as_mut().poll(cx),
                None => {
                    debug_assert!(false, "a call was polled after its end");
                    Poll::Pending
                }
            },
        }
    }
}

impl<T, E> fmt::Debug for CacheFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFuture").finish_non_exhaustive()
    }
}
