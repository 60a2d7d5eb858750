//! Which state a request belongs to, in a policy that keeps one per key.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::LazyLock,
};

/// A key, which identifies a request to a keyed policy: by a client address, a tenant, a path.
///
/// A closure that returns anything hashable is a key; the `http` feature has ready-made ones.
/// Policies keep a 64-bit hash and not the key itself: a lookup copies and allocates nothing, and
/// memory per key does not depend on the key. Two different keys with the same hash share one
/// state. Among a million keys the probability of such a pair is 3 in 100 million, and nobody
/// outside can provoke one, because the hash is seeded at random in every process.
///
/// ```
/// use buttress::Key;
///
/// struct Request { tenant: String }
///
/// fn keyed(_: impl Key<Request>) { /* a builder's `.keyed(..)`, for one */ }
///
/// keyed(|req: &Request| req.tenant.clone());
/// ```
///
/// A key that borrows from the request goes through [`borrowed_key`]; one of several borrowed parts
/// is a type of your own, which feeds them into the hasher one after the other:
///
/// ```
/// use buttress::{Key, borrowed_key};
/// use std::hash::{Hash, Hasher};
///
/// struct Request { tenant: String, path: String }
///
/// struct TenantAndPath;
///
/// impl Key<Request> for TenantAndPath {
///     fn hash<H: Hasher>(&self, req: &Request, hasher: &mut H) {
///         (&req.tenant, &req.path).hash(hasher);
///     }
/// }
///
/// fn keyed(_: impl Key<Request>) { /* a builder's `.keyed(..)`, for one */ }
///
/// keyed(borrowed_key(|req: &Request| req.tenant.as_str()));
/// keyed(TenantAndPath);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key for requests of type `{Req}`",
    label = "does not identify a `{Req}`",
    note = "a closure over this type of request is one: `|req: &{Req}| ...`; it returns something hashable, or with `borrowed_key(..)` around it a reference into the request",
    note = "`run` has no request to tell apart: `policy.run_for(&request, op)` takes one"
)]
pub trait Key<Req> {
    /// Feeds what identifies the request into the hasher.
    fn hash<H: Hasher>(&self, req: &Req, hasher: &mut H);
}

#[diagnostic::do_not_recommend]
impl<Req, K: Hash, F: Fn(&Req) -> K> Key<Req> for F {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Req, hasher: &mut H) {
        self(req).hash(hasher);
    }
}

/// A key that is a reference into the request, made by [`borrowed_key`].
#[derive(Clone, Copy, Debug)]
pub struct BorrowedKey<F>(F);

/// Returns a [`Key`] of a closure that returns a reference into the request, which spares a copy.
///
/// The closure itself is none: the compiler does not find out by itself that the reference lives as
/// long as the request ("lifetime may not live long enough"), and this tells it.
///
/// ```
/// # #[cfg(feature = "rate-limit")] {
/// use buttress::{RateLimiter, borrowed_key};
/// use std::time::Duration;
///
/// struct Query { name: String }
///
/// # fn main() -> Result<(), buttress::InvalidConfig> {
/// let limiter = RateLimiter::builder("names", 10, Duration::from_secs(1))
///     .keyed(borrowed_key(|query: &Query| query.name.as_str()))
///     .build()?;
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
pub const fn borrowed_key<Req, K, F>(key: F) -> BorrowedKey<F>
where
    K: Hash + ?Sized,
    F: Fn(&Req) -> &K,
{
    BorrowedKey(key)
}

impl<Req, K: Hash + ?Sized, F: Fn(&Req) -> &K> Key<Req> for BorrowedKey<F> {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Req, hasher: &mut H) {
        (self.0)(req).hash(hasher);
    }
}

/// The key of policies that keep one state for all requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Global;

impl<Req> Key<Req> for Global {
    #[inline]
    fn hash<H: Hasher>(&self, _: &Req, _: &mut H) {}
}

/// A request's key, hashed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    #[inline]
    pub(crate) fn of<Req, K: Key<Req>>(key: &K, req: &Req) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = SEED.build_hasher();
        key.hash(req, &mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_borrow_from_the_request_and_so_may_the_request() {
        struct Query<'q> {
            name: &'q str,
            text: String,
        }
        let (name, text) = ("ada".to_owned(), "hello".to_owned());
        let query = |text: &str| Query {
            name: &name,
            text: text.to_owned(),
        };
        let by_text = borrowed_key(|query: &Query<'_>| query.text.as_str());
        let hash = |text| KeyHash::of(&by_text, &query(text));
        assert_eq!(hash(&text), hash("hello"));
        assert_ne!(hash("hello"), hash("bye"));
        let by_name = borrowed_key(|query: &Query<'_>| query.name);
        assert_eq!(
            KeyHash::of(&by_name, &query("x")),
            KeyHash::of(&by_name, &query("y"))
        );
        // Borrowed or owned, it is the same key.
        let owned = |query: &Query<'_>| query.text.clone();
        assert_eq!(KeyHash::of(&owned, &query("hello")), hash("hello"));
    }

    #[test]
    fn a_closure_is_a_key_and_equal_keys_hash_alike() {
        let tenant = |req: &(u32, String)| req.0;
        let hash = |n| KeyHash::of(&tenant, &(n, "path".to_owned()));
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
