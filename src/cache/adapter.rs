//! What requests and responses of some kind are to a cache.

use super::{key::KeyRef, loaded::Loaded, status::Cached};
use crate::error::Rejected;
use std::{
    any::Any,
    fmt::{self, Display, Write},
    future::Future,
};

/// A buffer that a request's key is written to. Threads reuse their buffers, so that a lookup does
/// not allocate.
#[derive(Debug, Default)]
pub struct KeyBuf {
    /// The key, which identifies the answer.
    pub key: String,
    /// The tag with which the entry can be invalidated; empty for none.
    pub tag: String,
}

impl KeyBuf {
    /// Appends a value to the key, as its `Display` shows it.
    ///
    /// For texts and whole numbers, which most keys are made of, it takes a fraction of the time of
    /// `write!`.
    ///
    /// # Errors
    /// If the value's `Display` fails. Then the key is incomplete, and must not be used.
    #[inline]
    pub fn push(&mut self, part: &(impl Display + 'static)) -> fmt::Result {
        // Its type is known when this is compiled, so only one of these is left.
        let any: &dyn Any = part;
        if let Some(text) = any.downcast_ref::<String>() {
            self.key.push_str(text);
        } else if let Some(text) = any.downcast_ref::<&'static str>() {
            self.key.push_str(text);
        } else if let Some(number) = whole(any) {
            self.push_number(number);
        } else {
            return write!(self.key, "{part}");
        }
        Ok(())
    }

    #[inline]
    fn push_number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut from = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            from = at;
            if number == 0 {
                break;
            }
        }
        for digit in &digits[from..] {
            self.key.push(char::from(*digit));
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

/// Returns the value if it is a whole number that is not negative and fits.
#[inline]
fn whole(any: &dyn Any) -> Option<u64> {
    macro_rules! first {
        ($($of:ty),*) => {
            $(if let Some(number) = any.downcast_ref::<$of>() {
                return u64::try_from(*number).ok();
            })*
        };
    }
    first!(u64, u32, u16, u8, usize, i64, i32, i16, i8, isize);
    None
}

/// What an [`Adapter`] asks a cache to do for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Disposition {
    /// Look for the answer under the key.
    Lookup,
    /// Call the service, and keep nothing.
    Bypass,
    /// Call the service, and keep nothing. If the call succeeds, invalidate what is under the key.
    Invalidate,
}

/// A translator between a cache and one kind of requests and responses, such as HTTP's.
///
/// A layer made by [`Cache::layer_with`](super::Cache::layer_with) asks it for a request's key, for
/// how a load ended, and for the response to return.
#[diagnostic::on_unimplemented(
    message = "this cache's layer does not fit a service that answers a `{Req}` with a `{Res}`",
    label = "its key or its answers are of other types",
    note = "its key is a closure over the request that returns an `Option`: `cache.layer(|req: &{Req}| Some(..))`",
    note = "what it keeps is what the service answers with: `Cache<{Res}>`, which is `Clone`",
    note = "`http::Response` is kept by `cache.http_layer()`"
)]
pub trait Adapter<Req, Res, E>: Clone + Send + Sync + 'static {
    /// The part of a response that is stored.
    type Value: Clone + Send + Sync + 'static;
    /// A response that cannot be stored, and is for the caller only.
    type Uncacheable: Send + 'static;
    /// The response of the layer's service.
    type Response;

    /// Writes the request's key into `key`, and returns what the cache is to do for the request.
    fn key(&self, req: &Req, key: &mut KeyBuf) -> Disposition;

    /// Prepares a request whose response may be shared with others. Changes nothing by default.
    fn prepare(&self, _req: &mut Req) {}

    /// Returns what the result of a load means, and what of it can be stored.
    fn classify(
        &self,
        result: Result<Res, E>,
        rejected: Option<Rejected>,
    ) -> impl Future<Output = Loaded<Self::Value, Self::Uncacheable, E>> + Send;

    /// Returns whether a call with [`Disposition::Invalidate`] succeeded, so that what is stored is
    /// outdated.
    fn succeeded(&self, result: Result<&Res, &E>) -> bool;

    /// Returns the response for an answer that was stored, or may be.
    fn cached(&self, cached: Cached<Self::Value>) -> Self::Response;

    /// Returns the response for a load that could not be stored; `cache` is the cache's name.
    fn uncacheable(&self, response: Self::Uncacheable, cache: &'static str) -> Self::Response;

    /// Returns the response to a request that was not looked up; `cache` is the cache's name.
    /// `pending` is whether the request outdated an entry, but the store could not be told.
    fn bypassed(
        &self,
        response: Res,
        cache: &'static str,
        used: Disposition,
        pending: bool,
    ) -> Self::Response;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(part: &(impl Display + 'static)) -> String {
        let mut key = KeyBuf::default();
        key.push(&"a/").unwrap();
        key.push(part).unwrap();
        key.key
    }

    #[test]
    fn what_is_pushed_reads_as_it_displays_itself() {
        for number in [0, 7, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            assert_eq!(pushed(&number), format!("a/{number}"));
        }
        for number in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(pushed(&number), format!("a/{number}"));
        }
        assert_eq!(pushed(&u8::MAX), "a/255");
        assert_eq!(pushed(&i8::MIN), "a/-128");
        assert_eq!(pushed(&u128::MAX), format!("a/{}", u128::MAX));
        assert_eq!(pushed(&"b"), "a/b");
        assert_eq!(pushed(&String::from("\u{fc}")), "a/\u{fc}");
        assert_eq!(pushed(&'c'), "a/c");
    }
}
