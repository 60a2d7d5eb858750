//! What keys have been charged beyond their quota.
//!
//! A debt is counted as soon as there is room for it: as if it were admitted at the very moments at
//! which something leaves the window. Nobody looks then, so it is made up for when somebody does.

use super::{counting::Counting, slot_table::Slot};
use crate::{
    key_table::PrehashedMap,
    rate_limit::capacity_forecast::{CapacityForecast, WindowForecast},
};

/// The debts of a shard's keys. Few keys have one.
#[derive(Debug, Default)]
pub(super) struct Debts(PrehashedMap<Debt>);

#[derive(Clone, Copy, Debug)]
struct Debt {
    amount: u64,
    /// Up to when it has been made up for: the key's window is full then.
    settled_to: u64,
}

impl Debts {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, hash: u64) -> u64 {
        self.0.get(&hash).map_or(0, |debt| debt.amount)
    }

    /// Adds to a key's debt, which has been made up for up to now.
    pub(super) fn add(&mut self, hash: u64, amount: u64, now: u64) {
        if amount > 0 {
            let debt = self.0.entry(hash).or_insert(Debt {
                amount: 0,
                settled_to: now,
            });
            debt.amount = debt.amount.saturating_add(amount);
        }
    }

    /// Forgives so much of a key's debt. Returns how much.
    pub(super) fn forgive(&mut self, hash: u64, amount: u64) -> u64 {
        let Some(debt) = self.0.get_mut(&hash) else {
            return 0;
        };
        let forgiven = debt.amount.min(amount);
        debt.amount -= forgiven;
        if debt.amount == 0 {
            self.0.remove(&hash);
        }
        forgiven
    }

    /// Notes that there was no more room for a key's debt up to now, under another quota.
    pub(super) fn settled(&mut self, hash: u64, now: u64) {
        if let Some(debt) = self.0.get_mut(&hash) {
            debt.settled_to = now;
        }
    }

    pub(super) fn forget(&mut self, hash: u64) {
        self.0.remove(&hash);
    }

    /// Counts what has found room since somebody looked last. Returns what is left of the debt.
    pub(super) fn settle<C: Counting>(
        &mut self,
        counting: &C,
        hash: u64,
        slot: Slot<'_, C::Detail>,
        now: u64,
    ) -> u64 {
        let Some(&Debt { amount, settled_to }) = self.0.get(&hash) else {
            return 0;
        };
        let Slot { word, detail } = slot;
        let (mut left, mut at) = (amount, settled_to);
        loop {
            left = counting.charge(Slot { word, detail }, left, at);
            if left == 0 {
                self.0.remove(&hash);
                return 0;
            }
            let forecast = counting.forecast(Slot { word, detail }, at);
            let CapacityForecast::Window(window) = forecast else {
                break;
            };
            // The windows in which the debt takes every place that becomes free.
            let period = window.counted_for.period().max(1);
            let windows = (now.saturating_sub(at) / period).saturating_sub(1);
            let windows = windows.min(left / window.quota.max(1));
            if windows > 0 && window.used == window.quota {
                left -= windows * window.quota;
                let later = windows.saturating_mul(period);
                move_on(counting, Slot { word, detail }, &window, later);
                at = at.saturating_add(later);
                continue;
            }
            match window.leaving.first() {
                Some(&(next, _)) if next <= now && next > at => at = next,
                _ => break,
            }
        }
        self.0.insert(
            hash,
            Debt {
                amount: left,
                settled_to: at,
            },
        );
        left
    }
}

/// Counts what a window holds as much later.
fn move_on<C: Counting>(
    counting: &C,
    slot: Slot<'_, C::Detail>,
    window: &WindowForecast,
    later: u64,
) {
    let Slot { word, detail } = slot;
    (*word, *detail) = (0, C::Detail::default());
    for (leaves, amount) in &window.leaving {
        let at = window
            .counted_for
            .admitted_by(*leaves)
            .saturating_add(later);
        let left = counting.charge(Slot { word, detail }, *amount, at);
        debug_assert_eq!(left, 0, "a full window is as full later");
    }
}
