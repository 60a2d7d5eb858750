//! The packed forms of a window as one way of counting, which may change from one to another.

use super::{
    counting::{Counting, PackedWindow},
    packed_log::{self, PackedLog},
    packed_sub_windows::{PackedSubWindows, spend_lease},
    slot_table::Slot,
};
use crate::rate_limit::{capacity_forecast::CapacityForecast, status::RemainingQuota};

/// A packed form, from the finest to the coarsest.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Form {
    #[default]
    Log,
    /// 59 sub-windows per window.
    Bytes1,
    /// 29 sub-windows per window.
    Bytes2,
    /// 19 sub-windows per window.
    Bytes3,
    /// 14 sub-windows per window.
    Bytes4,
}

impl Form {
    /// Returns the finest form that this quota fits into.
    pub(super) fn of(quota: u32) -> Self {
        match quota {
            _ if quota <= packed_log::LARGEST_QUOTA => Self::Log,
            0..=0xff => Self::Bytes1,
            0x100..=0xffff => Self::Bytes2,
            0x1_0000..=0xff_ffff => Self::Bytes3,
            _ => Self::Bytes4,
        }
    }

    /// Returns the largest quota that fits.
    pub(super) fn largest(self) -> u32 {
        match self {
            Self::Log => packed_log::LARGEST_QUOTA,
            Self::Bytes1 => 0xff,
            Self::Bytes2 => 0xffff,
            Self::Bytes3 => 0xff_ffff,
            Self::Bytes4 => u32::MAX,
        }
    }
}

/// A window of a quota in one of the forms.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormCounting {
    /// How long a lease lasts, in nanoseconds: a sub-window; 0 if nothing is leased. Known without
    /// a look at the form, because most calls need no more.
    lease: u64,
    counting: AnyForm,
}

#[derive(Clone, Copy, Debug)]
enum AnyForm {
    Log(PackedLog),
    Bytes1(PackedSubWindows<1>),
    Bytes2(PackedSubWindows<2>),
    Bytes3(PackedSubWindows<3>),
    Bytes4(PackedSubWindows<4>),
}

macro_rules! each {
    ($counting:expr, $form:ident => $answer:expr) => {
        match &$counting.counting {
            AnyForm::Log($form) => $answer,
            AnyForm::Bytes1($form) => $answer,
            AnyForm::Bytes2($form) => $answer,
            AnyForm::Bytes3($form) => $answer,
            AnyForm::Bytes4($form) => $answer,
        }
    };
}

impl FormCounting {
    /// Makes the counting of a quota, which must fit, and a window in nanoseconds.
    #[inline]
    pub(super) fn new(form: Form, quota: u32, window: u64) -> Self {
        debug_assert!(quota <= form.largest(), "{quota} in {form:?}");
        let counting = match form {
            Form::Log => AnyForm::Log(PackedLog::new(quota, window)),
            Form::Bytes1 => AnyForm::Bytes1(PackedSubWindows::new(quota, window)),
            Form::Bytes2 => AnyForm::Bytes2(PackedSubWindows::new(quota, window)),
            Form::Bytes3 => AnyForm::Bytes3(PackedSubWindows::new(quota, window)),
            Form::Bytes4 => AnyForm::Bytes4(PackedSubWindows::new(quota, window)),
        };
        let lease = match &counting {
            AnyForm::Log(_) => 0,
            AnyForm::Bytes1(form) => form.sub_window(),
            AnyForm::Bytes2(form) => form.sub_window(),
            AnyForm::Bytes3(form) => form.sub_window(),
            AnyForm::Bytes4(form) => form.sub_window(),
        };
        Self { lease, counting }
    }

    pub(super) fn form(&self) -> Form {
        match &self.counting {
            AnyForm::Log(_) => Form::Log,
            AnyForm::Bytes1(_) => Form::Bytes1,
            AnyForm::Bytes2(_) => Form::Bytes2,
            AnyForm::Bytes3(_) => Form::Bytes3,
            AnyForm::Bytes4(_) => Form::Bytes4,
        }
    }

    #[inline(never)]
    fn take_from_form(
        &self,
        slot: Slot<'_, PackedWindow>,
        cost: u32,
        now: u64,
    ) -> Result<u64, Option<u64>> {
        each!(self, form => form.take(slot, cost, now))
    }

    /// Counts in another form, or over another window, what was counted in a form: no earlier than
    /// it was admitted.
    #[cold]
    pub(super) fn recount(
        form: Form,
        window: u64,
        before: &Self,
        slot: Slot<'_, PackedWindow>,
        now: u64,
    ) {
        let Slot { word, detail } = slot;
        let counted = before.forecast(Slot { word, detail }, now);
        (*word, *detail) = (0, PackedWindow::default());
        let CapacityForecast::Window(counted) = counted else {
            debug_assert!(false, "a packed window is forecast as one");
            return;
        };
        let all = Self::new(form, form.largest(), window);
        for (leaves, amount) in &counted.leaving {
            let at = counted.counted_for.admitted_by(*leaves).min(now);
            let left = all.charge(Slot { word, detail }, *amount, at);
            debug_assert_eq!(left, 0, "a coarser form holds what a finer one held");
        }
        all.end_lease(Slot { word, detail });
    }
}

impl Counting for FormCounting {
    type Detail = PackedWindow;

    #[inline]
    fn quota(&self) -> u32 {
        each!(self, form => form.quota())
    }

    #[inline]
    fn fits(&self, cost: u32) -> bool {
        each!(self, form => form.fits(cost))
    }

    #[inline(always)]
    fn take(&self, slot: Slot<'_, PackedWindow>, cost: u32, now: u64) -> Result<u64, Option<u64>> {
        match spend_lease(slot.word, self.lease, cost, now) {
            Some(number) => Ok(number),
            None => self.take_from_form(slot, cost, now),
        }
    }

    fn at(&self, time: u64) -> u64 {
        each!(self, form => form.at(time))
    }

    fn end_lease(&self, slot: Slot<'_, PackedWindow>) {
        each!(self, form => form.end_lease(slot));
    }

    fn refund(&self, slot: Slot<'_, PackedWindow>, cost: u64, now: u64) {
        each!(self, form => form.refund(slot, cost, now));
    }

    fn give_back(&self, slot: Slot<'_, PackedWindow>, at: u64, cost: u32) {
        each!(self, form => form.give_back(slot, at, cost));
    }

    fn is_idle(&self, slot: Slot<'_, PackedWindow>, now: u64) -> bool {
        each!(self, form => form.is_idle(slot, now))
    }

    fn used(&self, slot: Slot<'_, PackedWindow>, now: u64) -> u64 {
        each!(self, form => form.used(slot, now))
    }

    fn keep_half(&self, slot: Slot<'_, PackedWindow>, now: u64) {
        each!(self, form => form.keep_half(slot, now));
    }

    fn remaining(&self, slot: Slot<'_, PackedWindow>, now: u64) -> RemainingQuota {
        each!(self, form => form.remaining(slot, now))
    }

    fn forecast(&self, slot: Slot<'_, PackedWindow>, now: u64) -> CapacityForecast {
        each!(self, form => form.forecast(slot, now))
    }

    /// A lease was drawn under the old quota; a form is only left for a coarser one.
    fn adopt(&self, before: &Self, slot: Slot<'_, PackedWindow>, now: u64) {
        let Slot { word, detail } = slot;
        before.end_lease(Slot { word, detail });
        if self.form() != before.form() {
            let window = each!(self, form => form.window_length());
            Self::recount(self.form(), window, before, Slot { word, detail }, now);
        }
    }
}
