//! What an invalidation of many entries leaves behind: pure.
//!
//! Invalidating a tag does not look for its entries: it changes the tag, and they find that theirs
//! is not the current one when they are looked at. A tag has two numbers. `current` changes with
//! every invalidation: what was loaded before is not fresh. `base` changes only where the old
//! entries are to be gone: what has the right base is outdated, but kept.

use super::store::InvalidationMode;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The tags of one process.
#[derive(Debug, Default)]
pub(super) struct Tags {
    all: Mutex<All>,
    /// No number is used twice, so a tag that was forgotten does not come back as what it was.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct All {
    tags: HashMap<Arc<str>, Arc<Tag>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Tag {
    current: AtomicU64,
    base: AtomicU64,
}

/// A tag, and what it was when an entry's lease was granted.
#[derive(Clone, Debug)]
pub(super) struct Tagged {
    tag: Arc<Tag>,
    current: u64,
    base: u64,
}

/// What an entry is worth, as far as its tag says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Current,
    Outdated,
    Gone,
}

impl Tags {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the tag as it is now.
    pub(super) fn tagged(&self, tag: &str) -> Tagged {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = match all.tags.get(tag) {
            Some(tag) => Arc::clone(tag),
            None => {
                if all.tags.len() >= all.sweep_at {
                    // Tags that no entry has: nothing can be learnt from them.
                    all.tags.retain(|_, tag| Arc::strong_count(tag) > 1);
                    all.sweep_at = (2 * all.tags.len()).max(64);
                }
                let number = self.next();
                let new = Arc::new(Tag {
                    current: AtomicU64::new(number),
                    base: AtomicU64::new(number),
                });
                all.tags.insert(tag.into(), Arc::clone(&new));
                new
            }
        };
        let (current, base) = (
            tag.current.load(Ordering::SeqCst),
            tag.base.load(Ordering::SeqCst),
        );
        Tagged { tag, current, base }
    }

    /// Makes all entries that were loaded before outdated, or gone.
    pub(super) fn invalidate(&self, tag: &str, mode: InvalidationMode) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a tag that is not here there is no entry and no lease.
        let Some(tag) = all.tags.get(tag) else { return };
        let number = self.next();
        // First the base: in between, entries are gone, which is never wrong.
        if mode == InvalidationMode::Drop {
            tag.base.store(number, Ordering::SeqCst);
        }
        tag.current.store(number, Ordering::SeqCst);
    }
}

impl Tagged {
    pub(super) fn is_current(&self) -> bool {
        self.standing() == Standing::Current
    }

    #[inline]
    pub(super) fn standing(&self) -> Standing {
        if self.tag.base.load(Ordering::SeqCst) != self.base {
            Standing::Gone
        } else if self.tag.current.load(Ordering::SeqCst) != self.current {
            Standing::Outdated
        } else {
            Standing::Current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_before_is_outdated_or_gone_and_stays_so() {
        let tags = Tags::default();
        let first = tags.tagged("tasks");
        tags.invalidate("tasks", InvalidationMode::Keep);
        let second = tags.tagged("tasks");
        let standing = |of: [&Tagged; 2]| of.map(Tagged::standing);
        let (outdated, gone) = (Standing::Outdated, Standing::Gone);
        assert_eq!(standing([&first, &second]), [outdated, Standing::Current]);
        tags.invalidate("others", InvalidationMode::Drop);
        assert_eq!(standing([&first, &second]), [outdated, Standing::Current]);
        tags.invalidate("tasks", InvalidationMode::Drop);
        tags.invalidate("tasks", InvalidationMode::Keep);
        assert_eq!(standing([&first, &second]), [gone, gone]);
    }

    #[test]
    fn tags_without_entries_are_forgotten_and_come_back_as_others() {
        let tags = Tags::default();
        let kept = tags.tagged("kept");
        for n in 0..10_000 {
            tags.tagged(&n.to_string());
        }
        assert!(tags.all.lock().unwrap().tags.len() < 200);
        assert!(kept.is_current());
        assert_eq!(tags.tagged("kept").current, kept.current);
    }
}
