//! Keys that are hashed once, and looked up in two places.

use super::key::{EntryKey, KeyRef};
use quick_cache::Equivalent;
use std::hash::{Hash, Hasher};

/// A key and its hash, which is asked for twice.
#[derive(Clone, Debug)]
pub(super) struct Hashed<K> {
    pub(super) hash: u64,
    pub(super) key: K,
}

impl<K> Hash for Hashed<K> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl PartialEq for Hashed<EntryKey> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Eq for Hashed<EntryKey> {}

impl Equivalent<Hashed<EntryKey>> for Hashed<KeyRef<'_>> {
    #[inline]
    fn equivalent(&self, other: &Hashed<EntryKey>) -> bool {
        self.hash == other.hash && self.key == other.key.as_ref()
    }
}

/// The hash that was made already.
#[derive(Default)]
pub(super) struct Given(u64);

impl Hasher for Given {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write(&mut self, bytes: &[u8]) {
        // Nothing comes here; it would be a hash, if a bad one.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
