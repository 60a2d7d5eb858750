//! Calls that are still running, by when they began.
//!
//! A dependency that hangs ends no call, so nothing would ever be counted as slow. Here each stripe
//! counts its running calls by the eighth of the slow duration in which they began, a cell for each
//! eighth. There are more cells than it takes eighths to become slow: when a cell is needed for a
//! new eighth, the calls that are left in it are overdue for good, and join one last count. A
//! running call has to hold only when it began and in which stripe it was counted, from which its
//! cell follows.
//!
//! Calls of an earlier epoch stop counting when it ends, without anyone having to walk the cells at
//! that moment: a stripe is emptied when it is first used in a later epoch, and skipped until then.
//! Words carry as much of the epoch as they have bits for, so that a thread that is caught between
//! two epochs writes nothing that is taken for the later one's.

use crate::{
    clock::Time,
    shared::{lock, thread_index},
    striped::Striped,
};
use std::sync::{
    Mutex,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// More than the nine eighths after which everybody in a cell is overdue. With so many, a stripe
/// takes 128 bytes.
const CELLS: u64 = 12;
const COUNT: u64 = (1 << 20) - 1;
const EPOCH: u64 = (1 << 12) - 1;
const LATE: u64 = (1 << 52) - 1;

/// By how many eighths a cell may be ahead of a call. One that seems further ahead is of the past,
/// before the number of its eighth wrapped: no call enters that began more than [`CELLS`] eighths
/// ago, and clocks of two threads differ by less.
const AHEAD: u32 = 1 << 10;

/// Those of one stripe.
///
/// # Invariants
/// 1. What the words hold is of the epoch in `epoch`, but for what threads have written that were
///    in an earlier one when it began. Their part of the epoch says so. So the epoch is written
///    last, with `Release`, and read first, with `Acquire`: who finds it his own finds the words
///    empty, and nothing that he counts is wiped out after it.
/// 2. An epoch's part in a word repeats after 4 096 epochs, the eighth's after 2^32 eighths: 6 days
///    with a slow duration of 1 ms. A word that old is left only where a call still runs, or, of an
///    earlier epoch, nowhere.
#[derive(Debug, Default)]
struct RunningCalls {
    /// The epoch whose calls are counted here.
    epoch: AtomicU64,
    /// Held by whoever empties the stripe for another epoch.
    emptying: Mutex<()>,
    /// `epoch:12 | eighth:32 | count:20`
    cells: [AtomicU64; CELLS as usize],
    /// `epoch:12 | count:52`, the count signed: a call may leave before the one that moves its cell
    /// has brought it here.
    late: AtomicU64,
    /// The epoch in the upper 16 bits and the eighth in which the rates were last looked at from
    /// here.
    looked: AtomicU64,
}

impl RunningCalls {
    /// Makes this the stripe of an epoch. False if it is one of a later epoch.
    #[inline]
    fn begin(&self, epoch: u64) -> bool {
        self.epoch.load(Acquire) == epoch || self.empty_for(epoch)
    }

    #[cold]
    fn empty_for(&self, epoch: u64) -> bool {
        let _emptying = lock(&self.emptying);
        let before = self.epoch.load(Relaxed);
        if before < epoch {
            for word in self.cells.iter().chain([&self.late]) {
                word.store(0, Relaxed);
            }
            self.epoch.store(epoch, Release);
        }
        before <= epoch
    }

    fn is_of(&self, epoch: u64) -> bool {
        self.epoch.load(Acquire) == epoch
    }
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
    /// full, or its epoch over.
    pub(super) fn enter(&self, epoch: u64, began: Time, now: Time) -> Option<usize> {
        let index = thread_index();
        let stripe = self.stripes.at(index);
        if !stripe.begin(epoch) {
            return None;
        }
        let RunningCalls { cells, late, .. } = stripe;
        let eighth = began.0 / self.eighth;
        // Its cell is somebody else's already.
        if (now.0 / self.eighth).saturating_sub(eighth) >= CELLS {
            adjust(late, epoch, 1);
            return Some(index);
        }
        let (tag, cell) = (tag(epoch, eighth), &cells[(eighth % CELLS) as usize]);
        let mut word = cell.load(Relaxed);
        loop {
            let next = match word >> 20 {
                same if same == tag && word & COUNT == COUNT => return None,
                same if same == tag => word + 1,
                // The clock of another thread is ahead.
                other if word & COUNT > 0 && is_later(other, tag) => {
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
        let tag = (epoch << 48) ^ (now.0 / self.eighth);
        let first = looked.load(Relaxed) != tag;
        if first {
            looked.store(tag, Relaxed);
        }
        first
    }

    /// Counts a call no longer, which has ended.
    pub(super) fn leave(&self, index: usize, epoch: u64, began: Time) {
        let stripe = self.stripes.at(index);
        if !stripe.is_of(epoch) {
            return;
        }
        let RunningCalls { cells, late, .. } = stripe;
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
        for stripe in self.stripes.iter().filter(|stripe| stripe.is_of(epoch)) {
            // First, and with `Acquire`: those whom it counts have left their cell then, so that
            // nobody is counted twice. Somebody on his way is missed until the next look.
            sum += count_in(stripe.late.load(Acquire), epoch);
            for cell in &stripe.cells {
                let word = cell.load(Relaxed);
                let age = (eighth as u32).wrapping_sub((word >> 20) as u32);
                let overdue = (9..u32::MAX - AHEAD).contains(&age);
                if word >> 52 == epoch & EPOCH && overdue {
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
        let stripes = self.stripes.iter();
        stripes.filter(|s| s.is_of(epoch)).map(of_stripe).sum()
    }
}

fn tag(epoch: u64, eighth: u64) -> u64 {
    (epoch & EPOCH) << 32 | eighth & u64::from(u32::MAX)
}

/// Returns whether this cell's epoch, or its eighth in the same epoch, is later than ours. Both
/// wrap around.
fn is_later(cell: u64, ours: u64) -> bool {
    let epochs = (cell >> 32).wrapping_sub(ours >> 32) & EPOCH;
    match epochs {
        0 => (1..=AHEAD).contains(&(cell as u32).wrapping_sub(ours as u32)),
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
    // `Release`: after they have left their cell.
    let _ = late.fetch_update(Release, Relaxed, |word| {
        let ahead = epoch.wrapping_sub(word >> 52) & EPOCH;
        match ahead {
            // An empty word is of no epoch.
            _ if word & LATE == 0 => Some(epoch << 52 | by as u64 & LATE),
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
            calls.enter(0, *at, *at).unwrap();
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
            calls.enter(4, Time(n * 100), Time(n * 100)).unwrap();
        }
        calls.enter(5, Time(4_000), Time(4_000)).unwrap();
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
        calls.enter(0, Time(9_000), Time(9_000)).unwrap();
        calls.enter(0, Time(9_000 - 1_400), Time(9_000)).unwrap();
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
                        held.push_back((began, calls.enter(7, began, began).unwrap()));
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

    #[test]
    fn calls_are_counted_in_every_epoch_however_many_there_were() {
        let calls = InFlight::new(800, 1);
        // None of the last two wraps is whole: 4 096 epochs are skipped in one step.
        let epochs = (0..10_000).chain([10_000 + 4_096, 10_000 + 3 * 4_096, u64::MAX >> 4]);
        for epoch in epochs {
            for n in 0..3 {
                // Overdue ones that nobody ends, one that ends, and one that is told of late.
                let (began, now) = (Time(n * 100), Time(n * 100));
                calls.enter(epoch, began, now).unwrap();
            }
            calls.enter(epoch, Time(300), Time(2_000)).unwrap();
            calls.leave(0, epoch, Time(100));
            assert_eq!(calls.running(epoch), 3, "{epoch}");
            assert_eq!(calls.overdue(epoch, Time(2_000)), 3, "{epoch}");
            assert_eq!(calls.overdue(epoch + 1, Time(2_000)), 0, "{epoch}");
            assert_eq!(calls.overdue(epoch + 4_096, Time(2_000)), 0, "{epoch}");
        }
    }

    #[test]
    fn a_call_that_enters_or_leaves_after_its_epoch_counts_nowhere() {
        let calls = InFlight::new(800, 1);
        calls.enter(1, Time(0), Time(0)).unwrap();
        calls.enter(2, Time(0), Time(0)).unwrap();
        assert_eq!(calls.enter(1, Time(0), Time(0)), None);
        calls.leave(0, 1, Time(0));
        assert_eq!((calls.running(1), calls.running(2)), (0, 1));
    }

    #[test]
    fn after_a_silence_of_any_length_new_calls_are_not_overdue_and_old_ones_are() {
        for silence in [1 << 10, 1 << 31, (1 << 31) + 1, 3 << 30, (1 << 32) - 2_000] {
            let calls = InFlight::new(800, 1);
            for n in 0..CELLS {
                calls.enter(0, Time(n * 100), Time(n * 100)).unwrap();
            }
            let now = |n: u64| Time((silence + n) * 100);
            assert_eq!(calls.overdue(0, now(0)), CELLS, "{silence}");
            for n in 0..CELLS {
                calls.enter(0, now(n), now(n)).unwrap();
                assert_eq!(
                    calls.overdue(0, now(n)),
                    CELLS + n.saturating_sub(8),
                    "{silence}"
                );
            }
        }
    }
}
