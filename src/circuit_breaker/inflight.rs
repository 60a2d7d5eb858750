//! Calls that are still running, by when they began.
//!
//! A dependency that hangs ends no call, so nothing would ever be counted as slow. Here each stripe
//! counts its running calls by the eighth of the slow duration in which they began, a cell for each
//! eighth. There are more cells than it takes eighths to become slow: when a cell is needed for a
//! new eighth, the calls that are left in it are overdue for good, and join one last count. A
//! running call has to hold only when it began and in which stripe it was counted, from which its
//! cell follows.
//!
//! All words carry the epoch: calls of an earlier one stop counting when the epoch ends, without
//! anyone having to walk the cells at that moment.

use crate::{clock::Time, shared::thread_index, striped::Striped};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// More than the nine eighths after which everybody in a cell is overdue.
const CELLS: u64 = 14;
const COUNT: u64 = (1 << 20) - 1;
const EPOCH: u64 = (1 << 12) - 1;
const LATE: u64 = (1 << 52) - 1;

/// Those of one stripe.
#[derive(Debug, Default)]
struct RunningCalls {
    /// `epoch:12 | eighth:32 | count:20`
    cells: [AtomicU64; CELLS as usize],
    /// `epoch:12 | count:52`, the count signed: a call may leave before the one that moves its cell
    /// has brought it here.
    late: AtomicU64,
    /// The epoch and the eighth in which the rates were last looked at from here.
    looked: AtomicU64,
}

#[derive(Debug)]
pub(super) struct InFlight {
    /// Nanoseconds of an eighth of the slow duration.
    eighth: u64,
    stripes: Striped<RunningCalls>,
}

impl InFlight {
    /// Makes that many stripes, which must be a power of two.
    pub(super) fn new(slow: u64, stripes: usize) -> Self {
        Self {
            eighth: slow.div_ceil(8).max(1),
            stripes: Striped::new(stripes, |_| RunningCalls::default()),
        }
    }

    /// Counts a call that began then, and returns with which thread's index; `None` if its cell is
    /// full.
    pub(super) fn enter(&self, epoch: u64, began: Time) -> Option<usize> {
        let index = thread_index();
        let RunningCalls { cells, late, .. } = self.stripes.at(index);
        let eighth = began.0 / self.eighth;
        let (tag, cell) = (tag(epoch, eighth), &cells[(eighth % CELLS) as usize]);
        let mut word = cell.load(Relaxed);
        loop {
            let next = match word >> 20 {
                same if same == tag && word & COUNT == COUNT => return None,
                same if same == tag => word + 1,
                // It began so long ago that its cell is somebody else's already.
                other if is_later(other, tag) => {
                    adjust(late, epoch, 1);
                    return Some(index);
                }
                _ => tag << 20 | 1,
            };
            match cell.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => {
                    if word >> 20 != tag && word >> 52 == epoch & EPOCH {
                        adjust(late, epoch, (word & COUNT) as i64);
                    }
                    return Some(index);
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Returns whether this stripe asks for the first time in this eighth. Who is overdue changes
    /// from one eighth to the next, so this is when the rates have to be looked at.
    #[inline]
    pub(super) fn first_look(&self, epoch: u64, now: Time) -> bool {
        let looked = &self.stripes.own().looked;
        let tag = tag(epoch, now.0 / self.eighth);
        let first = looked.load(Relaxed) != tag;
        if first {
            looked.store(tag, Relaxed);
        }
        first
    }

    /// Counts a call no longer, which has ended.
    pub(super) fn leave(&self, index: usize, epoch: u64, began: Time) {
        let RunningCalls { cells, late, .. } = self.stripes.at(index);
        let eighth = began.0 / self.eighth;
        let tag = tag(epoch, eighth);
        let left = cells[(eighth % CELLS) as usize].fetch_update(Relaxed, Relaxed, |word| {
            (word >> 20 == tag && word & COUNT > 0).then(|| word - 1)
        });
        if left.is_err() {
            adjust(late, epoch, -1);
        }
    }

    /// Returns how many calls of this epoch have run for longer than the slow duration, to an
    /// eighth.
    pub(super) fn overdue(&self, epoch: u64, now: Time) -> u64 {
        let eighth = now.0 / self.eighth;
        let mut sum = 0;
        for stripe in self.stripes.iter() {
            sum += count_in(stripe.late.load(Relaxed), epoch);
            for cell in &stripe.cells {
                let word = cell.load(Relaxed);
                let age = (eighth as u32).wrapping_sub((word >> 20) as u32) as i32;
                if word >> 52 == epoch & EPOCH && age >= 9 {
                    sum += (word & COUNT) as i64;
                }
            }
        }
        sum.max(0) as u64
    }

    /// Returns how many calls of this epoch are running.
    #[cfg(test)]
    pub(super) fn running(&self, epoch: u64) -> i64 {
        let of_stripe = |stripe: &RunningCalls| {
            let cells = stripe.cells.iter().map(|cell| cell.load(Relaxed));
            let cells = cells.filter(|word| word >> 52 == epoch & EPOCH);
            count_in(stripe.late.load(Relaxed), epoch)
                + cells.map(|word| (word & COUNT) as i64).sum::<i64>()
        };
        self.stripes.iter().map(of_stripe).sum()
    }
}

fn tag(epoch: u64, eighth: u64) -> u64 {
    (epoch & EPOCH) << 32 | eighth & u64::from(u32::MAX)
}

/// Is this cell's epoch, or its eighth in the same epoch, later than ours? Both wrap around.
fn is_later(cell: u64, ours: u64) -> bool {
    let epochs = (cell >> 32).wrapping_sub(ours >> 32) & EPOCH;
    match epochs {
        0 => ((cell as u32).wrapping_sub(ours as u32) as i32) > 0,
        ahead => ahead <= EPOCH / 2,
    }
}

fn count_in(late: u64, epoch: u64) -> i64 {
    match late >> 52 == epoch & EPOCH {
        true => ((late << 12) as i64) >> 12,
        false => 0,
    }
}

fn adjust(late: &AtomicU64, epoch: u64, by: i64) {
    let epoch = epoch & EPOCH;
    let _ = late.fetch_update(Relaxed, Relaxed, |word| {
        let ahead = epoch.wrapping_sub(word >> 52) & EPOCH;
        match ahead {
            0 => Some(epoch << 52 | word.wrapping_add_signed(by) & LATE),
            newer if newer <= EPOCH / 2 => Some(epoch << 52 | by as u64 & LATE),
            _ => None,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_calls_become_overdue_after_the_slow_duration_and_leave_exactly() {
        let calls = InFlight::new(800, 1);
        let began: Vec<_> = (0..100).map(|n| Time(n * 40)).collect();
        for at in &began {
            calls.enter(0, *at).unwrap();
            let slow = began.iter().filter(|b| b.0 + 800 <= at.0).count() as u64;
            let seen = calls.overdue(0, *at);
            // To an eighth: two or three calls begin in one.
            assert!(seen <= slow && seen + 3 >= slow, "{seen} of {slow}");
        }
        assert_eq!(calls.overdue(0, Time(1 << 30)), 100);
        for at in &began {
            calls.leave(0, 0, *at);
        }
        assert_eq!(calls.running(0), 0);
        assert_eq!(calls.overdue(0, Time(1 << 30)), 0);
    }

    #[test]
    fn an_epoch_that_ended_leaves_nothing_behind() {
        let calls = InFlight::new(800, 1);
        for n in 0..40 {
            calls.enter(4, Time(n * 100)).unwrap();
        }
        calls.enter(5, Time(4_000)).unwrap();
        assert_eq!(calls.overdue(5, Time(1 << 30)), 1);
        for n in 0..40 {
            calls.leave(0, 4, Time(n * 100));
        }
        assert_eq!(calls.running(5), 1);
        calls.leave(0, 5, Time(4_000));
        assert_eq!((calls.running(5), calls.overdue(5, Time(1 << 30))), (0, 0));
    }

    #[test]
    fn every_eighth_of_every_epoch_is_looked_at_once() {
        let calls = InFlight::new(800, 1);
        for (epoch, now, first) in [
            (1, 50, true),
            (1, 99, false),
            (1, 100, true),
            (2, 100, true),
        ] {
            assert_eq!(calls.first_look(epoch, Time(now)), first);
        }
    }

    #[test]
    fn a_call_that_is_told_of_late_counts_as_overdue() {
        let calls = InFlight::new(800, 1);
        calls.enter(0, Time(9_000)).unwrap();
        calls.enter(0, Time(9_000 - 1_400)).unwrap();
        assert_eq!(calls.overdue(0, Time(9_000)), 1);
        calls.leave(0, 0, Time(9_000 - 1_400));
        assert_eq!(calls.running(0), 1);
    }

    #[test]
    fn threads_that_come_and_go_leave_exact_counts() {
        let calls = InFlight::new(80, 2);
        std::thread::scope(|s| {
            for t in 0..4 {
                let calls = &calls;
                s.spawn(move || {
                    let mut held = std::collections::VecDeque::new();
                    for n in 0..20_000_u64 {
                        let began = Time(n * 3 + t);
                        held.push_back((began, calls.enter(7, began).unwrap()));
                        if held.len() > (n % 90) as usize {
                            let (began, index) = held.pop_front().unwrap();
                            calls.leave(index, 7, began);
                        }
                    }
                    for (began, index) in held {
                        calls.leave(index, 7, began);
                    }
                });
            }
        });
        assert_eq!(calls.running(7), 0);
    }
}
