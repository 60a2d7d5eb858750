//! Who may load which key, in one process.

use super::{key::EntryKey, tags::Tagged};
use crate::{
    clock::Time,
    shared::{Padded, stripes},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A lease on a key of a [`MemoryStore`](super::MemoryStore).
#[derive(Debug)]
pub struct MemoryLease {
    token: u64,
    pub(super) granted: Time,
    pub(super) tag: Option<Arc<Tagged>>,
}

/// The leases on all keys of a memory store.
///
/// # Invariants
/// 1. A key has one lease at most, and no two leases ever have the same token: so one that was
///    revoked cannot come back under another holder's name.
/// 2. Whatever is done to a key is done under the lock of its shard ([`with`](Self::with)), and so
///    is one step: to look and to grant, to take the lease and to store, to revoke it and to
///    remove.
/// 3. A lease that does not stand any more fills nothing. It ends by being taken or revoked, when
///    its time is over and another is granted, or when its tag is invalidated.
/// 4. No answer is dropped under a shard's lock.
#[derive(Debug)]
pub(super) struct Leases {
    shards: Box<[Padded<Mutex<Shard>>]>,
    hasher: RandomState,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    held: HashMap<EntryKey, Lease>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Lease {
    token: u64,
    until: Time,
    tag: Option<Arc<Tagged>>,
}

impl Lease {
    /// Whether the lease still counts. One under a tag that was invalidated is good for nothing,
    /// and in nobody's way.
    fn stands(&self, now: Time) -> bool {
        now < self.until && self.tag.as_ref().is_none_or(|tag| tag.is_current())
    }
}

impl Default for Leases {
    fn default() -> Self {
        debug_assert!(stripes().is_power_of_two(), "{} stripes", stripes());
        Self {
            shards: (0..4 * stripes()).map(|_| Padded::default()).collect(),
            hasher: RandomState::new(),
            next: AtomicU64::new(0),
        }
    }
}

impl Leases {
    /// Runs `f` on the lease of a key, as one step.
    pub(super) fn with<T>(&self, key: &EntryKey, f: impl FnOnce(&mut OfKey<'_>) -> T) -> T {
        let shard = self.hasher.hash_one(key) as usize & (self.shards.len() - 1);
        let shard = lock(&self.shards[shard].0);
        f(&mut OfKey {
            key,
            shard,
            next: &self.next,
        })
    }

    /// Revokes all leases, and runs `f` while none can be granted.
    pub(super) fn clear<T>(&self, f: impl FnOnce() -> T) -> T {
        let mut shards: Vec<_> = self.shards.iter().map(|shard| lock(&shard.0)).collect();
        for shard in &mut shards {
            shard.held.clear();
        }
        f()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lease on one key.
pub(super) struct OfKey<'a> {
    key: &'a EntryKey,
    shard: MutexGuard<'a, Shard>,
    next: &'a AtomicU64,
}

impl OfKey<'_> {
    /// Returns for how long somebody still has a lease on the key, or `None` if nobody has.
    pub(super) fn held(&self, now: Time) -> Option<Duration> {
        let lease = self.shard.held.get(self.key)?;
        lease.stands(now).then(|| lease.until.since(now))
    }

    /// Grants a lease to whoever asks, to be called if nobody [has](Self::held) one.
    pub(super) fn grant(
        &mut self,
        lasts: Duration,
        tag: Option<Arc<Tagged>>,
        now: Time,
    ) -> MemoryLease {
        debug_assert!(self.held(now).is_none(), "a lease that stands is replaced");
        let shard = &mut *self.shard;
        if shard.held.len() >= shard.sweep_at {
            // Holders that have vanished.
            shard.held.retain(|_, lease| lease.stands(now));
            shard.sweep_at = (2 * shard.held.len()).max(64);
        }
        let token = self.next.fetch_add(1, Relaxed);
        let lease = Lease {
            token,
            until: now.after(lasts),
            tag: tag.clone(),
        };
        shard.held.insert(self.key.clone(), lease);
        MemoryLease {
            token,
            granted: now,
            tag,
        }
    }

    /// Takes this lease back, if it still stands.
    pub(super) fn take(&mut self, lease: &MemoryLease) -> bool {
        match self.shard.held.get(self.key) {
            Some(held) if held.token == lease.token => {
                self.shard.held.remove(self.key);
                true
            }
            _ => false,
        }
    }

    /// Ends whatever lease there is.
    pub(super) fn revoke(&mut self) {
        self.shard.held.remove(self.key);
    }
}
