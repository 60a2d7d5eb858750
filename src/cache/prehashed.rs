//! Keys that are hashed once, and looked up in two places.

use super::key::{EntryKey, KeyRef};
use quick_cache::Equivalent;
use std::hash::{Hash, Hasher};

/// A key and its hash, which is asked for twice.
#[derive(Clone, Debug)]
pub(super) struct Prehashed<K> {
    pub(super) hash: u64,
    pub(super) key: K,
}

impl<K> Hash for Prehashed<K> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl PartialEq for Prehashed<EntryKey> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Eq for Prehashed<EntryKey> {}

impl Equivalent<Prehashed<EntryKey>> for Prehashed<KeyRef<'_>> {
    #[inline]
    fn equivalent(&self, other: &Prehashed<EntryKey>) -> bool {
        self.hash == other.hash && self.key == other.key.as_ref()
    }
}
