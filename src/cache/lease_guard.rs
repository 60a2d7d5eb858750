//! A lease that is given back when whoever has it is dropped.

use super::{background, freshness::Entry, key::EntryKey, store::Store};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A lease, and what the store had when it was granted. Dropped, it gives the lease back: or others
/// would wait until it has run out.
pub(super) struct LeaseGuard<V, St: Store<V>> {
    pub(super) lease: Option<St::Lease>,
    pub(super) known: Option<Entry<V>>,
    store: Arc<St>,
    key: EntryKey,
    /// For how long it may take to give it back.
    limit: Duration,
}

impl<V, St: Store<V>> LeaseGuard<V, St> {
    pub(super) fn new(
        store: &Arc<St>,
        limit: Duration,
        key: &EntryKey,
        lease: St::Lease,
        known: Option<Entry<V>>,
    ) -> Self {
        Self {
            lease: Some(lease),
            known,
            store: Arc::clone(store),
            key: key.clone(),
            limit,
        }
    }
}

impl<V, St: Store<V>> Drop for LeaseGuard<V, St> {
    /// Gives the lease back now, or in the background. The store's breaker is not asked: a store
    /// that hangs does this first when it goes on.
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        if let Err(lease) = self.store.release_now(&self.key, lease) {
            let (store, key, limit) = (Arc::clone(&self.store), self.key.clone(), self.limit);
            background::spawn(async move {
                let _ = timeout(limit, store.release(&key, lease)).await;
            });
        }
    }
}
