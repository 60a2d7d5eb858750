//! The hub's quota in threads' pockets, without weakening the promise.
//!
//! A thread draws a few tokens at a time into a word of its own and spends them there. The hub
//! counts a token when it is drawn, and a token is good only in the sub-window it was drawn in, so
//! what is spent has always been counted in its own sub-window. Nothing is lost either: before
//! anyone is refused, every pocket is emptied back into the hub.

use super::hub::Hub;
use crate::{
    rate_limit::{forecast::Supply, status::Level},
    shared::{Padded, stripes, thread_index},
};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
};

#[derive(Debug)]
pub(in crate::rate_limit) struct Leases {
    sub: u64,
    /// Not even a cost of 1 fits before this time; 0 if it is not known. Written under the hub's
    /// lock; refusals read it without.
    full_until: Padded<AtomicU64>,
    /// Sub-window in the upper 48 bits, tokens left in the lower 16.
    pockets: Box<[Padded<AtomicU64>]>,
    hub: Padded<Mutex<Hub>>,
}

/// 48 bits of sub-windows of the shortest window last for 139 years. After that, time stands still
/// and the quota does not come back.
const LAST_TAG: u64 = (1 << 48) - 1;
const LEFT: u64 = (1 << 16) - 1;

impl Leases {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        let hub = Hub::new(quota, window);
        Self {
            sub: hub.sub(),
            full_until: Padded::default(),
            pockets: (0..stripes()).map(|_| Padded::default()).collect(),
            hub: Padded(Mutex::new(hub)),
        }
    }

    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let full_until = self.full_until.0.load(SeqCst);
        if now < full_until && cost == 1 {
            return Err(Some(full_until));
        }
        let pocket = self.pocket();
        let mut word = pocket.load(SeqCst);
        while self.is_now(word >> 16, now) && word & LEFT >= u64::from(cost) {
            match pocket.compare_exchange_weak(word, word - u64::from(cost), SeqCst, SeqCst) {
                Ok(_) => return Ok(word >> 16),
                Err(changed) => word = changed,
            }
        }
        self.refill(pocket, cost, now)
    }

    #[cold]
    fn refill(&self, pocket: &AtomicU64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let cost = u64::from(cost);
        let mut hub = self.hub();
        if cost > hub.quota() {
            return Err(None);
        }
        // A thread with an older time draws in the hub's sub-window: its own is closed.
        let tag = hub.advance(self.tag(now));
        reclaim(&mut hub, pocket);
        if hub.free() < cost {
            self.sweep(&mut hub);
        }
        if hub.free() == 0 {
            // Published first, then looked once more: a call that gives back either is seen here,
            // or sees this and clears it.
            self.full_until.0.store(hub.room_at(1), SeqCst);
            self.sweep(&mut hub);
        }
        if hub.free() < cost {
            if hub.free() > 0 {
                self.reopen();
            }
            return Err(Some(hub.room_at(cost)));
        }
        self.reopen();
        // A share of what is left, so that few draws are needed while there is much, and little
        // lies about in pockets while there is not.
        let share = hub.free() / (2 * self.pockets.len() as u64);
        let lease = share.clamp(1, LEFT).max(cost);
        hub.draw(lease);
        // Swapped, because a token may have been given back into it meanwhile.
        let word = pocket.swap(tag << 16 | (lease - cost), SeqCst);
        hub.give_back(word >> 16, word & LEFT);
        Ok(tag)
    }

    pub(super) fn give_back(&self, tag: u64, cost: u32) {
        let (pocket, cost) = (self.pocket(), u64::from(cost));
        let word = pocket.load(SeqCst);
        let fits = word >> 16 == tag && (word & LEFT) + cost <= LEFT;
        if fits
            && pocket
                .compare_exchange(word, word + cost, SeqCst, SeqCst)
                .is_ok()
        {
            if self.full_until.0.load(SeqCst) != 0 {
                let _hub = self.hub();
                self.reopen();
            }
        } else {
            let mut hub = self.hub();
            hub.give_back(tag, cost);
            self.reopen();
        }
    }

    pub(super) fn full_until(&self) -> u64 {
        self.full_until.0.load(SeqCst)
    }

    pub(super) fn set_quota(&self, quota: u32) {
        let mut hub = self.hub();
        // What lies in pockets was drawn under the old quota.
        self.sweep(&mut hub);
        hub.set_quota(quota);
        self.reopen();
    }

    pub(super) fn allowed(&self) -> u64 {
        let hub = self.hub();
        let left: u64 = self.pockets.iter().map(|p| p.0.load(SeqCst) & LEFT).sum();
        hub.granted.saturating_sub(left)
    }

    pub(super) fn level(&self, now: u64) -> Level {
        let hub = self.settled(now);
        Level {
            quota: hub.quota(),
            left: hub.free(),
            reset: hub.next().map_or(0, |at| at.saturating_sub(now)),
        }
    }

    pub(super) fn supply(&self, now: u64) -> Supply {
        Supply::Window(self.settled(now).supply(now))
    }

    /// The hub with everything in it that has not been spent.
    fn settled(&self, now: u64) -> MutexGuard<'_, Hub> {
        let mut hub = self.hub();
        hub.advance(self.tag(now));
        self.sweep(&mut hub);
        hub
    }

    fn sweep(&self, hub: &mut Hub) {
        for pocket in &self.pockets {
            reclaim(hub, &pocket.0);
        }
    }

    /// Under the hub's lock only.
    fn reopen(&self) {
        if self.full_until.0.load(SeqCst) != 0 {
            self.full_until.0.store(0, SeqCst);
        }
    }

    #[inline]
    fn pocket(&self) -> &AtomicU64 {
        &self.pockets[thread_index() & (self.pockets.len() - 1)].0
    }

    #[inline]
    fn tag(&self, now: u64) -> u64 {
        (now / self.sub).min(LAST_TAG)
    }

    /// Whether this is the tag of now, found without a division.
    #[inline]
    fn is_now(&self, tag: u64, now: u64) -> bool {
        now.wrapping_sub(tag.wrapping_mul(self.sub)) < self.sub
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reclaim(hub: &mut Hub, pocket: &AtomicU64) {
    if pocket.load(SeqCst) & LEFT != 0 {
        let word = pocket.swap(0, SeqCst);
        hub.give_back(word >> 16, word & LEFT);
    }
}
