//! What an entry is kept under.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The key of an entry, with the tag under which it can be invalidated, if it has one.
///
/// A tag stands for everything that one write may change, such as all pages of a list. The tag is
/// part of what identifies an entry, and an entry has at most one. So every store, even a Redis
/// cluster, can check key and tag in one step.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    tag: Option<Arc<str>>,
    key: Arc<str>,
}

/// A borrowed [`EntryKey`], so that a lookup need not allocate its key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyRef<'a> {
    tag: Option<&'a str>,
    key: &'a str,
}

impl<'a> KeyRef<'a> {
    /// Creates a key without a tag.
    #[inline]
    pub const fn new(key: &'a str) -> Self {
        Self { tag: None, key }
    }

    /// Puts the key under a tag, so that it can be invalidated together with others.
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
