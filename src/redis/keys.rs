//! What an entry is called in Redis.
//!
//! All keys that one script touches must lie in one slot of a cluster. Redis takes the slot from
//! the text between the first `{` and the first `}` after it, if there is any. Here that is the
//! entry's tag, or its key if it has no tag, with a letter in front that tells the two apart and
//! keeps it from being empty:
//!
//! ```text
//! app:v:{k=7}               the entry `7`             app:l:{k=7}               the lease on it
//! app:v:{t=items}:page=2    `page=2` tagged `items`   app:l:{t=items}:page=2    the lease on it
//! app:t:{t=items}           what is current under the tag `items`
//! ```
//!
//! Braces before the end of that text would move it, so they are written as `%7B` and `%7D`.

use crate::cache::KeyRef;

/// What separates the entries of one application from those of another.
#[derive(Clone, Debug)]
pub(super) struct Namespace(String);

/// The keys of one entry.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) value: String,
    pub(super) lease: String,
    /// Only if the entry has a tag.
    pub(super) tag: Option<String>,
}

/// What was invalidated, as it is told to the other instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Invalidated<'a> {
    Entry(KeyRef<'a>),
    Tag(&'a str),
}

impl Namespace {
    pub(super) fn new(name: &str) -> Self {
        let mut encoded = String::with_capacity(name.len());
        encode(&mut encoded, name);
        Self(encoded)
    }

    pub(super) fn section(&self, name: &str) -> Self {
        let mut encoded = format!("{}:", self.0);
        encode(&mut encoded, name);
        Self(encoded)
    }

    pub(super) fn keys(&self, key: KeyRef<'_>) -> Keys {
        Keys {
            value: self.entry('v', key),
            lease: self.entry('l', key),
            tag: key.tag().map(|tag| self.tag(tag)),
        }
    }

    pub(super) fn tag(&self, tag: &str) -> String {
        self.slot('t', 't', tag, 0)
    }

    /// Returns the channel that invalidations are published on.
    pub(super) fn channel(&self) -> String {
        format!("{}:invalidated", self.0)
    }

    fn entry(&self, kind: char, key: KeyRef<'_>) -> String {
        let Some(tag) = key.tag() else {
            return self.slot(kind, 'k', key.key(), 0);
        };
        let mut name = self.slot(kind, 't', tag, 1 + key.key().len());
        name.push(':');
        // Behind the slot everything may stand as it is.
        name.push_str(key.key());
        name
    }

    fn slot(&self, kind: char, what: char, text: &str, more: usize) -> String {
        let mut name = String::with_capacity(self.0.len() + text.len() + more + 8);
        name.push_str(&self.0);
        name.extend([':', kind, ':', '{', what, '=']);
        encode(&mut name, text);
        name.push('}');
        name
    }
}

impl Invalidated<'_> {
    /// Returns the message: `k` and the key; `t` and the tag; or `e`, the length of the tag, `:`,
    /// the tag and the key.
    pub(super) fn message(self) -> String {
        match self {
            Self::Tag(tag) => format!("t{tag}"),
            Self::Entry(key) => match key.tag() {
                None => format!("k{}", key.key()),
                Some(tag) => format!("e{}:{tag}{}", tag.len(), key.key()),
            },
        }
    }
}

impl<'a> Invalidated<'a> {
    /// Returns what a message says, if it is one of ours.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let message = std::str::from_utf8(message).ok()?;
        let rest = message.get(1..)?;
        match message.as_bytes().first()? {
            b't' => Some(Self::Tag(rest)),
            b'k' => Some(Self::Entry(KeyRef::new(rest))),
            b'e' => {
                let (length, rest) = rest.split_once(':')?;
                let (tag, key) = rest.split_at_checked(length.parse().ok()?)?;
                Some(Self::Entry(KeyRef::new(key).tagged(tag)))
            }
            _ => None,
        }
    }
}

/// Appends a text without braces. So that different texts stay different, `%` is written as `%25`.
fn encode(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['%', '{', '}']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes().first() {
            Some(b'{') => "%7B",
            Some(b'}') => "%7D",
            _ => "%25",
        });
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 12] = [
        "",
        "7",
        "a:b",
        "{",
        "}",
        "{}",
        "}{",
        "a{b}c",
        "%7B",
        "%",
        "t=items",
        "\u{1F980}{\u{e9}}",
    ];

    /// What Redis hashes: see its cluster specification.
    fn hashed(key: &str) -> &str {
        let Some((_, rest)) = key.split_once('{') else {
            return key;
        };
        match rest.split_once('}') {
            Some((tag, _)) if !tag.is_empty() => tag,
            _ => key,
        }
    }

    fn all() -> Vec<EntryKeys> {
        let mut all = Vec::new();
        for ns in TEXTS {
            for key in TEXTS {
                all.push((ns, None, key, Namespace::new(ns).keys(KeyRef::new(key))));
                for tag in TEXTS {
                    let tagged = KeyRef::new(key).tagged(tag);
                    all.push((ns, Some(tag), key, Namespace::new(ns).keys(tagged)));
                }
            }
        }
        all
    }
    type EntryKeys = (&'static str, Option<&'static str>, &'static str, Keys);

    #[test]
    fn all_keys_of_an_entry_lie_in_one_slot_whatever_braces_the_texts_hold() {
        for (ns, tag, key, keys) in all() {
            let slot = hashed(&keys.value);
            assert!(slot.starts_with(if tag.is_some() { "t=" } else { "k=" }));
            assert_eq!(slot, hashed(&keys.lease), "{ns:?} {tag:?} {key:?}");
            assert_eq!(tag.is_some(), keys.tag.is_some());
            if let Some(tag) = &keys.tag {
                assert_eq!(slot, hashed(tag));
            }
        }
    }

    #[test]
    fn different_entries_never_share_a_key() {
        let mut seen = std::collections::HashMap::new();
        for (ns, tag, key, keys) in all() {
            for name in [keys.value, keys.lease] {
                assert_eq!(seen.insert(name, (ns, tag, key)), None);
            }
            if let (Some(name), Some(tag)) = (keys.tag, tag) {
                // Shared by the entries of this tag, and by nothing else.
                let before = seen.insert(name, (ns, Some(tag), ""));
                assert!(before.is_none_or(|before| before == (ns, Some(tag), "")));
            }
        }
    }

    #[test]
    fn keys_can_be_read_by_people() {
        let app = Namespace::new("app");
        let keys = app.keys(KeyRef::new("page=2").tagged("items"));
        assert_eq!(keys.value, "app:v:{t=items}:page=2");
        assert_eq!(keys.lease, "app:l:{t=items}:page=2");
        assert_eq!(keys.tag.as_deref(), Some("app:t:{t=items}"));
        assert_eq!(app.keys(KeyRef::new("{7}")).value, "app:v:{k=%7B7%7D}");
        assert_eq!(app.channel(), "app:invalidated");
        let part = app.section("{a}").keys(KeyRef::new("7"));
        assert_eq!(part.value, "app:%7Ba%7D:v:{k=7}");
    }

    #[test]
    fn a_message_says_what_was_invalidated() {
        for (_, tag, key, _) in all() {
            let key = KeyRef::new(key);
            let entry = Invalidated::Entry(tag.map_or(key, |tag| key.tagged(tag)));
            assert_eq!(Invalidated::read(entry.message().as_bytes()), Some(entry));
            let tag = Invalidated::Tag(key.key());
            assert_eq!(Invalidated::read(tag.message().as_bytes()), Some(tag));
        }
        for foreign in ["", "x", "e", "e9:ab", "e:a", "e1:\u{e9}"] {
            assert_eq!(Invalidated::read(foreign.as_bytes()), None);
        }
        assert_eq!(Invalidated::read(b"k\xff"), None);
    }
}
