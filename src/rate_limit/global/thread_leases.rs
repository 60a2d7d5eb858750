//! Quota leased to threads a few units at a time, without weakening the promise.
//!
//! A thread draws a few units into a word of its own and spends them there. They are counted when
//! they are drawn, and good only in the sub-window in which they were drawn, so what is spent has
//! always been counted in its own sub-window. Nothing is lost either: before anyone is refused,
//! what every thread has left is taken back.

use super::sub_windows::SubWindows;
use crate::{
    rate_limit::{capacity_forecast::CapacityForecast, status::RemainingQuota},
    shared::{Padded, lock, stripes},
    striped::Striped,
};
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// A large quota, of which every stripe of threads leases a part.
///
/// # Invariants
/// 1. What a lease has left is counted in the sub-window whose number it bears.
/// 2. A lease is spent only in that sub-window.
/// 3. `full_until` is written under the lock only. Whoever gives something back either sees it, and
///    clears it, or is seen by whoever sets it.
#[derive(Debug)]
pub(in crate::rate_limit) struct ThreadLeases {
    /// How long a sub-window is, in nanoseconds.
    sub_window: u64,
    /// Not even a cost of 1 fits before this time; 0 if it is not known. Refusals read it without
    /// the lock.
    full_until: Padded<AtomicU64>,
    /// One lease for each stripe: the number of the sub-window in the upper 48 bits, what is left
    /// in the lower 16.
    leases: Striped<AtomicU64>,
    counts: Padded<Mutex<SubWindows>>,
}

/// 48 bits of sub-windows of the shortest window last for 139 years. After that, time stands still
/// and the quota does not come back.
const LAST_NUMBER: u64 = (1 << 48) - 1;
const LEFT: u64 = (1 << 16) - 1;

impl ThreadLeases {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        let counts = SubWindows::new(quota, window);
        Self {
            sub_window: counts.length(),
            full_until: Padded::default(),
            leases: Striped::default(),
            counts: Padded(Mutex::new(counts)),
        }
    }

    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let full_until = self.full_until.0.load(SeqCst);
        if now < full_until && cost == 1 {
            return Err(Some(full_until));
        }
        let lease = self.leases.own();
        let mut word = lease.load(SeqCst);
        while self.is_now(word >> 16, now) && word & LEFT >= u64::from(cost) {
            match lease.compare_exchange_weak(word, word - u64::from(cost), SeqCst, SeqCst) {
                Ok(_) => return Ok(word >> 16),
                Err(changed) => word = changed,
            }
        }
        self.renew(lease, cost, now)
    }

    /// Takes from the counts, and leases some more.
    #[cold]
    fn renew(&self, lease: &AtomicU64, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        let cost = u64::from(cost);
        let mut counts = lock(&self.counts.0);
        if cost > counts.quota() {
            return Err(None);
        }
        // A thread with an older time draws in the newest sub-window: its own is closed.
        let number = counts.advance(self.number(now));
        reclaim(&mut counts, lease);
        if counts.free() < cost {
            self.reclaim_all(&mut counts);
        }
        if counts.free() == 0 {
            // Published first, then looked once more: a call that gives back either is seen here,
            // or sees this and clears it.
            self.full_until.0.store(counts.free_at(1), SeqCst);
            self.reclaim_all(&mut counts);
        }
        if counts.free() < cost {
            if counts.free() > 0 {
                self.reopen();
            }
            return Err(Some(counts.free_at(cost)));
        }
        self.reopen();
        // A share of what is left, so that few draws are needed while there is much, and little
        // lies about in leases while there is not.
        let share = counts.free() / (2 * stripes() as u64);
        let drawn = share.clamp(1, LEFT).max(cost);
        counts.draw(drawn);
        debug_assert!(drawn - cost <= LEFT, "{drawn} do not fit into a lease");
        // Swapped, because something may have been given back into it meanwhile.
        let word = lease.swap(number << 16 | (drawn - cost), SeqCst);
        counts.give_back(word >> 16, word & LEFT);
        Ok(number)
    }

    pub(super) fn give_back(&self, number: u64, cost: u32) {
        let (lease, cost) = (self.leases.own(), u64::from(cost));
        let word = lease.load(SeqCst);
        let fits = word >> 16 == number && (word & LEFT) + cost <= LEFT;
        if fits
            && lease
                .compare_exchange(word, word + cost, SeqCst, SeqCst)
                .is_ok()
        {
            if self.full_until.0.load(SeqCst) != 0 {
                let mut counts = lock(&self.counts.0);
                if counts.debt() > 0 {
                    self.reclaim_all(&mut counts);
                }
                self.reopen();
            }
        } else {
            let mut counts = lock(&self.counts.0);
            counts.give_back(number, cost);
            self.reopen();
        }
    }

    /// Counts a cost that is known afterwards.
    pub(super) fn charge(&self, cost: u32, now: u64) {
        let mut counts = self.reclaimed(now);
        counts.charge(cost.into());
        if counts.free() == 0 {
            self.full_until.0.store(counts.free_at(1), SeqCst);
            // As before a refusal.
            self.reclaim_all(&mut counts);
            if counts.free() > 0 {
                self.reopen();
            }
        }
    }

    /// Forgets all that has been admitted or charged.
    pub(super) fn reset(&self) {
        let mut counts = lock(&self.counts.0);
        self.reclaim_all(&mut counts);
        if counts.next_number() <= LAST_NUMBER {
            counts.reset();
        }
        self.reopen();
    }

    /// Takes back a part of what was charged or admitted.
    pub(super) fn refund(&self, cost: u32, now: u64) {
        self.reclaimed(now).refund(cost.into());
        let _counts = lock(&self.counts.0);
        self.reopen();
    }

    pub(super) fn full_until(&self) -> u64 {
        self.full_until.0.load(SeqCst)
    }

    pub(super) fn set_quota(&self, quota: u32) {
        let mut counts = lock(&self.counts.0);
        // What is leased was drawn under the old quota.
        self.reclaim_all(&mut counts);
        counts.set_quota(quota);
        self.reopen();
    }

    pub(super) fn admitted_total(&self) -> u64 {
        let counts = lock(&self.counts.0);
        let left: u64 = self
            .leases
            .iter()
            .map(|lease| lease.load(SeqCst) & LEFT)
            .sum();
        counts.drawn_total.saturating_sub(left)
    }

    pub(super) fn remaining(&self, now: u64) -> RemainingQuota {
        let counts = self.reclaimed(now);
        let next = match counts.debt() {
            0 => counts.next_leaving(),
            _ => Some(counts.free_at(1)),
        };
        RemainingQuota {
            quota: counts.quota(),
            remaining: counts.free(),
            debt: counts.debt(),
            reset: next.map_or(0, |at| at.saturating_sub(now)),
        }
    }

    pub(super) fn forecast(&self, now: u64) -> CapacityForecast {
        CapacityForecast::Window(self.reclaimed(now).forecast(now))
    }

    /// Locks the counts, when everything that has not been spent is back in them.
    fn reclaimed(&self, now: u64) -> MutexGuard<'_, SubWindows> {
        let mut counts = lock(&self.counts.0);
        counts.advance(self.number(now));
        self.reclaim_all(&mut counts);
        counts
    }

    fn reclaim_all(&self, counts: &mut SubWindows) {
        for lease in self.leases.iter() {
            reclaim(counts, lease);
        }
    }

    /// Lets calls look again. Under the lock only.
    fn reopen(&self) {
        if self.full_until.0.load(SeqCst) != 0 {
            self.full_until.0.store(0, SeqCst);
        }
    }

    /// Returns the number of the sub-window at this time.
    #[inline]
    fn number(&self, now: u64) -> u64 {
        (now / self.sub_window).min(LAST_NUMBER)
    }

    /// Returns whether this is the number of the sub-window of now, without a division.
    #[inline]
    fn is_now(&self, number: u64, now: u64) -> bool {
        now.wrapping_sub(number.wrapping_mul(self.sub_window)) < self.sub_window
    }
}

/// Takes back what a lease has left.
fn reclaim(counts: &mut SubWindows, lease: &AtomicU64) {
    if lease.load(SeqCst) & LEFT != 0 {
        let word = lease.swap(0, SeqCst);
        counts.give_back(word >> 16, word & LEFT);
    }
}
