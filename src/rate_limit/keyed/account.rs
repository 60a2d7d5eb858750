//! Counting for a quota that may be another one at every call: by key, or because it was changed.
//!
//! A key is counted in the finest of the packed forms that its quota fits into, and in a coarser
//! one if its quota is raised. Nothing is leased: what a lease would hold was drawn under a quota
//! that may no longer be the one.

use super::{
    counting::{Counting, PackedWindow},
    form::{Form, FormCounting},
    slot_table::Slot,
};
use crate::rate_limit::{capacity_forecast::CapacityForecast, status::RemainingQuota};

/// One window, and the quota of one call's key in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountCounting {
    pub(super) quota: u32,
    /// In nanoseconds.
    pub(super) window: u64,
}

/// What is kept of a key in one window, and in which form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AccountWindow {
    form: Form,
    window: PackedWindow,
}

impl AccountCounting {
    /// Calls `f` with the form that the slot has.
    fn as_it_is<R>(
        &self,
        slot: Slot<'_, AccountWindow>,
        f: impl FnOnce(FormCounting, Slot<'_, PackedWindow>) -> R,
    ) -> R {
        let Slot { word, detail } = slot;
        let quota = self.quota.min(detail.form.largest());
        let counting = FormCounting::new(detail.form, quota, self.window);
        let detail = &mut detail.window;
        f(counting, Slot { word, detail })
    }

    /// Calls `f` with a form that the quota fits into.
    fn fitting<R>(
        &self,
        slot: Slot<'_, AccountWindow>,
        now: u64,
        f: impl FnOnce(FormCounting, Slot<'_, PackedWindow>) -> R,
    ) -> R {
        let Slot { word, detail } = slot;
        let needed = Form::of(self.quota);
        if detail.form < needed {
            self.as_it_is(Slot { word, detail }, |before, slot| {
                FormCounting::recount(needed, self.window, &before, slot, now);
            });
            detail.form = needed;
        } else if detail.form > needed && self.is_idle(Slot { word, detail }, now) {
            *word = 0;
            *detail = AccountWindow {
                form: needed,
                window: PackedWindow::default(),
            };
        }
        self.as_it_is(Slot { word, detail }, f)
    }
}

impl Counting for AccountCounting {
    type Detail = AccountWindow;

    fn quota(&self) -> u32 {
        self.quota
    }

    fn fits(&self, cost: u32) -> bool {
        cost <= self.quota
    }

    /// What identifies the admission is its time, which is the same in all windows.
    fn take(&self, slot: Slot<'_, AccountWindow>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        self.fitting(slot, now, |counting, slot| {
            let Slot { word, detail } = slot;
            counting.take(Slot { word, detail }, cost, now)?;
            counting.end_lease(Slot { word, detail });
            Ok(now)
        })
    }

    fn at(&self, _: u64) -> u64 {
        debug_assert!(false, "an account is given back by its time");
        0
    }

    fn give_back(&self, slot: Slot<'_, AccountWindow>, time: u64, cost: u32) {
        self.as_it_is(slot, |counting, slot| {
            counting.give_back(slot, counting.at(time), cost);
        });
    }

    fn end_lease(&self, _: Slot<'_, AccountWindow>) {}

    fn refund(&self, slot: Slot<'_, AccountWindow>, cost: u64, now: u64) {
        self.as_it_is(slot, |counting, slot| counting.refund(slot, cost, now));
    }

    fn is_idle(&self, slot: Slot<'_, AccountWindow>, now: u64) -> bool {
        self.as_it_is(slot, |counting, slot| counting.is_idle(slot, now))
    }

    fn used(&self, slot: Slot<'_, AccountWindow>, now: u64) -> u64 {
        self.as_it_is(slot, |counting, slot| counting.used(slot, now))
    }

    fn keep_half(&self, slot: Slot<'_, AccountWindow>, now: u64) {
        self.fitting(slot, now, |counting, slot| counting.keep_half(slot, now));
    }

    fn remaining(&self, slot: Slot<'_, AccountWindow>, now: u64) -> RemainingQuota {
        self.fitting(slot, now, |counting, slot| counting.remaining(slot, now))
    }

    fn forecast(&self, slot: Slot<'_, AccountWindow>, now: u64) -> CapacityForecast {
        self.fitting(slot, now, |counting, slot| counting.forecast(slot, now))
    }
}
