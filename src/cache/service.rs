//! The cache around a service's calls.

use super::{
    core::{Background, Core},
    key::EntryKey,
    load::{self, Answered, Load, Loaded},
    lookup::watched,
    shape::{Adapter, Disposition, KeyBuf},
    store::{InvalidationMode, Store},
};
use crate::{
    clock::Now,
    error::{FromRejected, Rejected, note_refusal},
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

/// A service whose answers are kept.
pub struct CacheService<S, V, St, Sh /* `buttress::check` says why */>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    inner: S,
    core: Shared<Core<V, St>>,
    shape: Sh,
}

impl<S, V, St, Sh> CacheService<S, V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    inner_accessors!();

    pub(super) fn new(inner: S, core: Shared<Core<V, St>>, shape: Sh) -> Self {
        Self { inner, core, shape }
    }
}

impl<S, V, St, Sh> Clone for CacheService<S, V, St, Sh>
where
    S: Clone,
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    Sh: Clone,
{
    #[inline]
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.core.clone(), self.shape.clone())
    }
}

impl<S: fmt::Debug, V, St, Sh> fmt::Debug for CacheService<S, V, St, Sh>
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

impl<S, Req, V, St, Sh> Service<Req> for CacheService<S, V, St, Sh>
where
    S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
    S::Error: FromRejected + Send + 'static,
    Req: Send + 'static,
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    Sh: Adapter<Req, S::Response, S::Error, Value = V>,
    Sh::Response: 'static,
{
    type Response = Sh::Response;
    type Error = S::Error;
    type Future = CacheFuture<Sh::Response, S::Error>;

    /// Always: a hit needs no service. A load waits for it within its call.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let (core, now) = (&self.core, Now::lazy());
        let mut buffer = Buffer::lend();
        let buffer = buffer.get();
        match self.shape.key(&req, buffer) {
            Disposition::Lookup => {}
            Disposition::Bypass => return self.bypass(req),
            Disposition::Invalidate => return self.invalidate(req, buffer),
        }
        let Some(hit) = core.guest.store.peek(buffer.as_ref(), &now) else {
            return self.miss(req, buffer);
        };
        core.tally.add(|t| &t.fresh);
        if core.refresh_is_due(&hit, now.get()) {
            self.refresh(req, buffer);
        }
        let response = self.shape.cached(core.hit(hit, now.get()));
        CacheFuture::ready(response)
    }
}

impl<S, V, St, Sh> CacheService<S, V, St, Sh>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn load<Req>(&self, req: Req) -> CallOnce<S, Req, Sh>
    where
        S: Clone,
        Sh: Clone,
    {
        CallOnce {
            // Nobody has asked this one to be ready; the load does.
            service: self.inner.clone(),
            req,
            shape: self.shape.clone(),
        }
    }

    #[cold]
    fn miss<Req>(&self, req: Req, key: &KeyBuf) -> CacheFuture<Sh::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        Sh: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        let (load, shape, name) = (self.load(req), self.shape.clone(), self.core.name);
        let answer = load::answer(self.core.clone(), key.as_ref().to_owned(), load);
        CacheFuture::loading(async move {
            Ok(match answer.await? {
                Answered::Cached(cached) => shape.cached(cached),
                Answered::Through(through) => shape.through(through, name),
            })
        })
    }

    #[cold]
    fn refresh<Req>(&self, req: Req, key: &KeyBuf)
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        Sh: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        let (core, key) = (self.core.clone(), key.as_ref().to_owned());
        Background::spawn(load::refresh(core, key, self.load(req)));
    }

    #[cold]
    fn bypass<Req>(&self, req: Req) -> CacheFuture<Sh::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        Sh: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        self.core.tally.add(|t| &t.bypassed);
        let (load, name) = (self.load(req), self.core.name);
        CacheFuture::loading(async move {
            let shape = load.shape.clone();
            let (result, rejected) = load.call().await;
            if let Some(rejected) = rejected {
                note_refusal(rejected);
            }
            result.map(|response| shape.bypassed(response, name, Disposition::Bypass, false))
        })
    }

    #[cold]
    fn invalidate<Req>(&self, req: Req, key: &KeyBuf) -> CacheFuture<Sh::Response, S::Error>
    where
        S: Service<Req, Response: Send, Future: Send> + Clone + Send + 'static,
        S::Error: FromRejected + Send + 'static,
        Req: Send + 'static,
        Sh: Adapter<Req, S::Response, S::Error, Value = V>,
    {
        self.core.tally.add(|t| &t.bypassed);
        let (core, name) = (self.core.clone(), self.core.name);
        let (load, key) = (self.load(req), key.as_ref().to_owned());
        CacheFuture::loading(async move {
            let shape = load.shape.clone();
            let write = Write(Some((super::Cache(core), key)));
            let (result, rejected) = load.call().await;
            let done = match &result {
                Ok(_) => shape.succeeded(result.as_ref()),
                // It may have been done, and only its answer be lost.
                Err(_) => rejected.is_none_or(|rejected| rejected.reached_service()),
            };
            let pending = write.ended(done).await;
            if let Some(rejected) = rejected {
                note_refusal(rejected);
            }
            result.map(|response| shape.bypassed(response, name, Disposition::Invalidate, pending))
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
            Background::spawn(async move {
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
struct CallOnce<S, Req, Sh> {
    service: S,
    req: Req,
    shape: Sh,
}

impl<S, Req, Sh> CallOnce<S, Req, Sh>
where
    S: Service<Req>,
{
    async fn call(self) -> (Result<S::Response, S::Error>, Option<Rejected>) {
        let Self {
            mut service, req, ..
        } = self;
        watched(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(req).await
        })
        .await
    }
}

impl<S, Req, Sh> Load<Sh::Value> for CallOnce<S, Req, Sh>
where
    S: Service<Req, Response: Send, Future: Send> + Send + 'static,
    S::Error: FromRejected + Send + 'static,
    Req: Send + 'static,
    Sh: Adapter<Req, S::Response, S::Error>,
{
    type Uncacheable = Sh::Uncacheable;
    type Error = S::Error;

    async fn load(mut self) -> Loaded<Sh::Value, Sh::Uncacheable, S::Error> {
        let shape = self.shape.clone();
        shape.prepare(&mut self.req);
        let (result, rejected) = self.call().await;
        shape.classify(result, rejected).await
    }
}

/// The response of a service whose answers are kept: at once, if it is at hand.
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
                None => Poll::Pending,
            },
        }
    }
}

impl<T, E> fmt::Debug for CacheFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFuture").finish_non_exhaustive()
    }
}
