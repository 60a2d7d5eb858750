//! What an entry is kept under.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What an entry is kept under: a key, and maybe the tag that it is invalidated with.
///
/// A tag stands for everything that one write may change: all pages of a list, say. It is part of
/// what identifies an entry, and an entry has one at most: so that key and tag can be checked in
/// one step wherever they are kept, a Redis cluster included.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    tag: Option<Arc<str>>,
    key: Arc<str>,
}

/// A borrowed [`EntryKey`]: what is looked up need not be allocated first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyRef<'a> {
    tag: Option<&'a str>,
    key: &'a str,
}

impl<'a> KeyRef<'a> {
    /// Makes a key without a tag.
    #[inline]
    pub const fn new(key: &'a str) -> Self {
        Self { tag: None, key }
    }

    /// Puts the key under a tag, with which it can be invalidated together with others.
    #[doc(alias = "surrogate_key")]
    #[doc(alias = "cache_tag")]
    #[inline]
    #[must_use]
    pub const fn tagged(self, tag: &'a str) -> Self {
        let tag = Some(tag);
        Self { tag, ..self }
    }

    /// Returns the key without its tag.
    #[inline]
    pub const fn key(self) -> &'a str {
        self.key
    }

    /// Returns the tag, if there is one.
    #[inline]
    pub const fn tag(self) -> Option<&'a str> {
        self.tag
    }

    /// Returns an owned copy of the key.
    pub fn to_owned(self) -> EntryKey {
        EntryKey {
            tag: self.tag.map(Arc::from),
            key: self.key.into(),
        }
    }
}

impl EntryKey {
    /// Borrows the key.
    #[inline]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            tag: self.tag.as_deref(),
            key: &self.key,
        }
    }

    /// Returns the key without its tag.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

/// A lookup hashes its key, so in as few steps as possible.
impl Hash for KeyRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if let Some(tag) = self.tag {
            tag.hash(hasher);
        }
        hasher.write(self.key.as_bytes());
    }
}

impl Hash for EntryKey {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.as_ref().hash(hasher);
    }
}

impl<'a> From<&'a str> for KeyRef<'a> {
    fn from(key: &'a str) -> Self {
        Self::new(key)
    }
}

impl<'a> From<&'a String> for KeyRef<'a> {
    fn from(key: &'a String) -> Self {
        Self::new(key)
    }
}

impl<'a> From<&'a EntryKey> for KeyRef<'a> {
    fn from(key: &'a EntryKey) -> Self {
        key.as_ref()
    }
}
