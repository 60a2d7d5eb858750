//! What requests and responses of some kind are to a cache.

use super::{key::KeyRef, load::Loaded, status::Cached};
use crate::error::Rejected;
use std::future::Future;

/// Where a request's key is written to.
#[derive(Debug, Default)]
pub struct KeyBuf {
    /// What identifies the answer.
    pub key: String,
    /// The tag that it is invalidated with; none if empty.
    pub tag: String,
}

impl KeyBuf {
    pub(super) const fn new() -> Self {
        Self {
            key: String::new(),
            tag: String::new(),
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.key.clear();
        self.tag.clear();
    }

    #[inline]
    pub(super) fn is_small(&self) -> bool {
        self.key.capacity() + self.tag.capacity() <= 8192
    }

    #[inline]
    pub(super) fn as_ref(&self) -> KeyRef<'_> {
        match &*self.tag {
            "" => KeyRef::new(&self.key),
            tag => KeyRef::new(&self.key).tagged(tag),
        }
    }
}

/// What a cache is to do for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// Look for the answer under the key.
    Lookup,
    /// Nothing.
    Bypass,
    /// Nothing, but if the call succeeds, what is under the key is outdated.
    Invalidate,
}

/// What requests and responses of some kind are to a cache.
pub trait Shape<Req, Res, E>: Clone + Send + Sync + 'static {
    /// What is stored.
    type Value: Clone + Send + Sync + 'static;
    /// What cannot be, and is for the caller only.
    type Through: Send + 'static;
    /// What the layer's service answers with.
    type Response;

    /// Writes what identifies the request's answer.
    fn key(&self, req: &Req, key: &mut KeyBuf) -> Use;

    /// Makes a request ready to be loaded for others as well.
    fn prepare(&self, _req: &mut Req) {}

    /// What the end of a load means, and what of it can be stored.
    fn judge(
        &self,
        result: Result<Res, E>,
        rejected: Option<Rejected>,
    ) -> impl Future<Output = Loaded<Self::Value, Self::Through, E>> + Send;

    /// Whether a call that may have changed what is stored succeeded.
    fn succeeded(&self, result: Result<&Res, &E>) -> bool;

    /// The response, of an answer.
    fn cached(&self, cached: Cached<Self::Value>) -> Self::Response;

    /// The response, of what could not be stored; with the cache's name.
    fn through(&self, through: Self::Through, cache: &'static str) -> Self::Response;

    /// The response to a request that was not looked up, with the cache's name. `pending`: it
    /// outdated an entry, and the store could not be told.
    fn bypassed(
        &self,
        response: Res,
        cache: &'static str,
        used: Use,
        pending: bool,
    ) -> Self::Response;
}
