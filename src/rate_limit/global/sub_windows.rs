//! Conservative sub-window counters: constant memory, and never more than the quota.
//!
//! A window of `n` sub-windows, wherever it starts, touches at most `n + 1` of them; so the sum of
//! the last `n + 1` counts, the oldest of them in full, is never less than what any window that
//! ends now has admitted. (Counters that take only a share of the oldest one guess where in it the
//! calls were, and can let nearly twice the quota into one window.) The price: an admission counts
//! up to one sub-window longer than it must.

use crate::rate_limit::capacity_forecast::{CountedFor, WindowForecast};

/// Sub-windows per window. When 100 calls per window are admitted and 150 arrive, at random, some
/// 60 sub-windows let 97 % of the quota be used, ten let 91 %, and the exact log 98 %.
const SUB_WINDOWS: u64 = 64;

/// The count of every sub-window that still counts.
///
/// # Invariants
/// 1. `used` is the sum of `counts`.
/// 2. `newest` never goes back, and no count belongs to a later sub-window.
/// 3. There is a debt only while nothing is free.
/// 4. A draw never makes `used` exceed the quota (but a quota that is lowered may).
#[derive(Debug)]
pub(super) struct SubWindows {
    quota: u64,
    /// How long a sub-window is, in nanoseconds.
    length: u64,
    /// The number of the newest sub-window, counted from the beginning of time.
    newest: u64,
    used: u64,
    /// Charged beyond the quota: counted as soon as there is room for it.
    debt: u64,
    /// Drawn since the beginning, less what came back.
    pub(super) drawn_total: u64,
    /// The count of a sub-window is at its number, modulo their number.
    counts: Box<[u64]>,
}

impl SubWindows {
    pub(super) fn new(quota: u32, window: u64) -> Self {
        Self {
            quota: quota.into(),
            length: window.div_ceil(SUB_WINDOWS),
            newest: 0,
            used: 0,
            debt: 0,
            drawn_total: 0,
            counts: vec![0; SUB_WINDOWS as usize + 1].into(),
        }
    }

    /// Returns how long a sub-window is, in nanoseconds.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn quota(&self) -> u64 {
        self.quota
    }

    pub(super) fn set_quota(&mut self, quota: u32) {
        self.quota = quota.into();
        self.pay();
    }

    pub(super) fn next_number(&self) -> u64 {
        self.newest.saturating_add(1)
    }

    /// Forgets all that has been drawn or charged. What is drawn from now on is in a new
    /// sub-window, so that what was drawn before is not given back to it.
    pub(super) fn reset(&mut self) {
        self.counts.fill(0);
        (self.used, self.debt) = (0, 0);
        self.newest = self.newest.saturating_add(1);
    }

    pub(super) fn debt(&self) -> u64 {
        self.debt
    }

    /// Counts what fits of the debt in the newest sub-window.
    fn pay(&mut self) {
        let paid = self.debt.min(self.free());
        self.debt -= paid;
        self.used += paid;
        *self.count(self.newest) += paid;
    }

    /// Counts a cost that is known afterwards. What does not fit is a debt.
    pub(super) fn charge(&mut self, cost: u64) {
        self.debt = self.debt.saturating_add(cost);
        self.drawn_total += cost;
        self.pay();
    }

    /// Takes back a part of what was charged or drawn in this window: the debt, and then what
    /// leaves first, so that nothing is counted for too short a time.
    pub(super) fn refund(&mut self, mut cost: u64) {
        self.drawn_total -= cost.min(self.drawn_total);
        let forgiven = cost.min(self.debt);
        self.debt -= forgiven;
        cost -= forgiven;
        for number in self.newest.saturating_sub(self.len() - 1)..=self.newest {
            let count = self.count(number);
            let taken = cost.min(*count);
            *count -= taken;
            cost -= taken;
            self.used -= taken;
        }
    }

    /// Returns how much may be drawn now.
    pub(super) fn free(&self) -> u64 {
        self.quota.saturating_sub(self.used)
    }

    fn len(&self) -> u64 {
        self.counts.len() as u64
    }

    fn count(&mut self, number: u64) -> &mut u64 {
        let len = self.len();
        &mut self.counts[(number % len) as usize]
    }

    /// Moves on to this sub-window, and returns the one that counts: a later one if it has been
    /// reached before.
    pub(super) fn advance(&mut self, number: u64) -> u64 {
        if self.debt > 0 && self.used == self.quota && self.newest < number {
            // The windows in which the debt takes every place that becomes free.
            let windows = (number - self.newest) / self.len();
            let windows = windows.min(self.debt / self.quota.max(1));
            self.debt -= windows * self.quota;
            self.newest += windows * self.len();
        }
        while self.newest < number {
            if self.used == 0 {
                self.newest = number;
                break;
            }
            self.newest += 1;
            let leaving = std::mem::take(self.count(self.newest));
            self.used -= leaving;
            self.pay();
        }
        debug_assert_eq!(self.used, self.counts.iter().sum::<u64>(), "{self:?}");
        self.newest
    }

    /// Draws `n`, which must be free, in the newest sub-window.
    pub(super) fn draw(&mut self, n: u64) {
        debug_assert!(n <= self.free(), "{n} of {self:?}");
        self.used += n;
        self.drawn_total += n;
        *self.count(self.newest) += n;
    }

    /// Takes back `n` that were drawn in this sub-window, if it still counts.
    pub(super) fn give_back(&mut self, number: u64, n: u64) {
        self.drawn_total -= n.min(self.drawn_total);
        if number <= self.newest && self.newest - number < self.len() {
            let count = self.count(number);
            let n = n.min(*count);
            *count -= n;
            self.used -= n;
            self.pay();
        }
    }

    /// Returns when `cost` will be free.
    pub(super) fn free_at(&self, cost: u64) -> u64 {
        if self.debt > 0 {
            let now = self.newest.saturating_mul(self.length);
            return self.forecast(now).unit_at(cost.max(1) - 1);
        }
        let mut must_leave = (self.used + cost).saturating_sub(self.quota);
        if must_leave == 0 {
            return self.newest.saturating_mul(self.length);
        }
        for (at, count) in self.leaving() {
            if count >= must_leave {
                return at;
            }
            must_leave -= count;
        }
        u64::MAX
    }

    /// Returns when the oldest count leaves, if there is one.
    pub(super) fn next_leaving(&self) -> Option<u64> {
        Some(self.leaving().next()?.0)
    }

    pub(super) fn forecast(&self, now: u64) -> WindowForecast {
        WindowForecast {
            now: now.max(self.newest.saturating_mul(self.length)),
            quota: self.quota,
            used: self.used,
            debt: self.debt,
            leaving: self.leaving().collect(),
            counted_for: CountedFor::SubWindows {
                length: self.length,
                count: self.len(),
            },
        }
    }

    /// Returns when how much leaves, oldest first.
    fn leaving(&self) -> impl Iterator<Item = (u64, u64)> {
        let len = self.len();
        (self.newest.saturating_sub(len - 1)..=self.newest).filter_map(move |number| {
            let count = self.counts[(number % len) as usize];
            let at = (number + len).saturating_mul(self.length);
            (count > 0).then_some((at, count))
        })
    }
}
