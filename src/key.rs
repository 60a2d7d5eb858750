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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key for requests of type `{Req}`",
    label = "does not identify a `{Req}`",
    note = "a closure over this type of request is one: `|req: &{Req}| ...`; it returns something hashable that borrows nothing",
    note = "`run` has no request to tell apart: `guard::run(&policy, &request, op)` takes one"
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
    fn a_closure_is_a_key_and_equal_keys_hash_alike() {
        let tenant = |req: &(u32, String)| req.0;
        let hash = |n| KeyHash::of(&tenant, &(n, "path".to_owned()));
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
