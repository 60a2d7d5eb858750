//! A sliding window in time, counted by every thread for itself.
//!
//! The window is cut into tenths, and slides a tenth at a time: what is counted is forgotten
//! between nine tenths of the window and the whole of it after it happened.

use crate::{clock::Time, shared::lock, striped::Striped};
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const TENTHS: u64 = 10;

const COUNT_BITS: u32 = 40;

/// The most that a bucket can hold.
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// In the tag of a bucket that counts a tenth. Without it, what is there is of no tenth.
const COUNTS: u64 = 1 << 63;

/// The rest of a tag.
const TAG: u64 = (1 << 23) - 1;

/// An era has 2^20 tenths. A tag repeats after eight of them, and by then what bore it is marked as
/// of no tenth: whoever is the first of a stripe to count in an era sees to that.
const ERA_BITS: u32 = 20;

/// The tenths of a window, each with a number of `KINDS` kinds. What the bits of a number count is
/// the business of those that write and read it.
///
/// # Invariants
/// 1. A bucket is one word, `counts:1 | tag:23 | count:40`, whose tag says which tenth it counts.
///    Whoever finds the tag of an earlier tenth starts the bucket anew, so nothing has to move a
///    head.
/// 2. Readers leave out what is not of the last ten tenths, so what is read expires without a
///    write.
/// 3. A stripe that has counted in the last ten tenths has no bucket that is older than two eras,
///    so none whose tag could be taken for a later tenth's. All others are not read.
#[derive(Debug)]
pub(crate) struct SlidingWindow<const KINDS: usize> {
    /// Nanoseconds of a tenth; not zero.
    tenth: u64,
    stripes: Striped<Tenths<KINDS>>,
}

/// One thread's part.
#[derive(Debug)]
struct Tenths<const KINDS: usize> {
    buckets: [[AtomicU64; TENTHS as usize]; KINDS],
    /// The latest tenth in which this stripe has counted: saves a division in most calls.
    last: AtomicU64,
    /// Held by whoever begins an era.
    beginning: Mutex<()>,
}

/// What a bucket held before something was counted with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PreviousCount {
    pub(crate) count: u64,
    /// Whether that was of a tenth that has left the window since, and is forgotten now.
    pub(crate) forgotten: bool,
    /// The word, and the tenth in which it was found.
    word: u64,
    tenth: u64,
}

impl PreviousCount {
    /// Returns how many tenths ago it was counted, if it was in one that is known.
    pub(crate) fn age(&self) -> Option<u64> {
        let age = self.tenth.wrapping_sub(self.word >> COUNT_BITS) & TAG;
        (self.word & COUNTS != 0).then_some(age)
    }
}

impl<const KINDS: usize> SlidingWindow<KINDS> {
    /// Makes that many stripes, which must be a power of two.
    pub(crate) fn new(window: u64, stripes: usize) -> Self {
        Self {
            tenth: (window / TENTHS).max(1),
            stripes: Striped::new(stripes, |_| Tenths::default()),
        }
    }

    /// Returns how many nanoseconds a tenth of the window has.
    pub(crate) fn tenth(&self) -> u64 {
        self.tenth
    }

    /// Returns when what is counted now will have left the window.
    #[cfg(feature = "throttle")]
    pub(crate) fn forgotten_at(&self, now: Time) -> Time {
        Time((now.0 / self.tenth + TENTHS).saturating_mul(self.tenth))
    }

    /// Returns the longest that [`forgotten_at`](Self::forgotten_at) can lie ahead.
    pub(crate) fn longest(&self) -> u64 {
        self.tenth.saturating_mul(TENTHS)
    }

    /// Counts with this thread's bucket of the present tenth. `next` makes a count of the one
    /// before it, which is zero at the beginning of a tenth; it is asked again if another thread
    /// was faster.
    #[inline(always)]
    pub(crate) fn count(
        &self,
        kind: usize,
        now: Time,
        mut next: impl FnMut(u64) -> u64,
    ) -> PreviousCount {
        let own = self.stripes.own();
        let mut n = own.last.load(Relaxed);
        if now.0.wrapping_sub(n.wrapping_mul(self.tenth)) >= self.tenth {
            let last = n;
            n = now.0 / self.tenth;
            // A time that was read long ago does not put the stripe back into the past.
            if n > last {
                if n >> ERA_BITS != last >> ERA_BITS {
                    own.begin_era(n);
                }
                own.last.store(n, Relaxed);
            }
        }
        let (bucket, tag) = (&own.buckets[kind][(n % TENTHS) as usize], tag_of(n));
        let mut word = bucket.load(Relaxed);
        loop {
            // The count alone; or more than any count, if the tag is another one.
            let count = word ^ tag;
            let forgotten = count > COUNT;
            let next = next(if forgotten { 0 } else { count });
            debug_assert!(next <= COUNT, "{next} in a bucket");
            match bucket.compare_exchange_weak(word, tag | next, Relaxed, Relaxed) {
                Ok(_) => {
                    let count = word & COUNT;
                    return PreviousCount {
                        count,
                        forgotten,
                        word,
                        tenth: n,
                    };
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Returns the counts of every bucket of the last ten tenths, the present one included.
    pub(crate) fn counts(&self, now: Time) -> impl Iterator<Item = [u64; KINDS]> {
        let last = now.0 / self.tenth;
        let first = last.saturating_sub(TENTHS - 1);
        let recent = move |stripe: &&Tenths<KINDS>| stripe.last.load(Relaxed) >= first;
        self.stripes.iter().filter(recent).flat_map(move |stripe| {
            (first..=last).map(move |n| {
                let (i, tag) = ((n % TENTHS) as usize, tag_of(n));
                stripe.buckets.each_ref().map(|kind| {
                    let count = kind[i].load(Relaxed) ^ tag;
                    if count <= COUNT { count } else { 0 }
                })
            })
        })
    }

    /// Returns the counts of one kind in the buckets of the last `tenths` tenths, also of those
    /// that have left the window, and how many tenths ago each was counted. What was counted with
    /// the same bucket since is not among them.
    pub(crate) fn ages(
        &self,
        kind: usize,
        now: Time,
        tenths: u64,
    ) -> impl Iterator<Item = (u64, u64)> {
        let last = now.0 / self.tenth;
        let first = last.saturating_sub(tenths.saturating_sub(1));
        let recent = move |stripe: &&Tenths<KINDS>| stripe.last.load(Relaxed) >= first;
        let stripes = self.stripes.iter().filter(recent);
        let buckets = stripes.flat_map(move |stripe| &stripe.buckets[kind]);
        buckets.filter_map(move |bucket| {
            let word = bucket.load(Relaxed);
            let age = last.wrapping_sub(word >> COUNT_BITS) & TAG;
            (word & COUNTS != 0 && age <= last - first).then_some((age, word & COUNT))
        })
    }

    /// Returns the counts of one kind in all buckets, also of those that have left the window.
    pub(crate) fn all(&self, kind: usize) -> impl Iterator<Item = u64> {
        let buckets = self
            .stripes
            .iter()
            .flat_map(move |stripe| &stripe.buckets[kind]);
        buckets.map(|bucket| bucket.load(Relaxed) & COUNT)
    }

    /// Forgets everything, and hands over what all buckets of all kinds were.
    pub(crate) fn clear(&self, mut forgotten: impl FnMut([u64; KINDS])) {
        for stripe in self.stripes.iter() {
            for i in 0..TENTHS as usize {
                let take = |kind: &[AtomicU64; TENTHS as usize]| kind[i].swap(0, Relaxed) & COUNT;
                forgotten(stripe.buckets.each_ref().map(take));
            }
        }
    }
}

impl<const KINDS: usize> Tenths<KINDS> {
    /// Marks what is of no tenth of the present window any more, in the first tenth that is counted
    /// in an era.
    #[cold]
    fn begin_era(&self, n: u64) {
        let _beginning = lock(&self.beginning);
        let last = self.last.load(Relaxed);
        // Another thread was faster, and what it has counted stays.
        if last >> ERA_BITS >= n >> ERA_BITS {
            return;
        }
        let first = n.saturating_sub(TENTHS - 1);
        for bucket in self.buckets.iter().flatten() {
            let tag = bucket.load(Relaxed) & !COUNT;
            if last < first || !(first..=n).any(|n| tag_of(n) == tag) {
                bucket.fetch_and(COUNT, Relaxed);
            }
        }
        self.last.store(n, Relaxed);
    }
}

impl<const KINDS: usize> Default for Tenths<KINDS> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Default::default()),
            last: AtomicU64::new(0),
            beginning: Mutex::new(()),
        }
    }
}

/// Returns the tag of this tenth, in its place. It repeats after eight eras.
#[inline]
fn tag_of(n: u64) -> u64 {
    n << COUNT_BITS | COUNTS
}

/// What a stripe of a window takes, its padding included.
#[cfg(test)]
pub(crate) const fn stripe_bytes<const KINDS: usize>() -> usize {
    size_of::<crate::shared::Padded<Tenths<KINDS>>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> SlidingWindow<2> {
        SlidingWindow::new(1_000, 1)
    }

    fn add(window: &SlidingWindow<2>, kind: usize, at: u64) -> PreviousCount {
        window.count(kind, Time(at), |count| count + 1)
    }

    fn sum(window: &SlidingWindow<2>, at: u64) -> [u64; 2] {
        let counts = window.counts(Time(at));
        counts.fold([0, 0], |[a, b], [c, d]| [a + c, b + d])
    }

    #[test]
    fn a_tenth_leaves_exactly_at_the_edge_and_reads_expire_without_writes() {
        let window = window();
        for (kind, at) in [(0, 0), (1, 99), (0, 100)] {
            add(&window, kind, at);
        }
        assert_eq!(sum(&window, 999), [2, 1]);
        assert_eq!(sum(&window, 1_000), [1, 0]);
        assert_eq!(sum(&window, 1_099), [1, 0]);
        assert_eq!(sum(&window, 1_100), [0, 0]);
        assert_eq!(window.forgotten_at(Time(100)), Time(1_100));
        assert_eq!(window.forgotten_at(Time(199)), Time(1_100));
        assert_eq!(window.longest(), 1_000);
    }

    #[test]
    fn whoever_begins_a_tenth_hears_what_it_forgets() {
        let window = window();
        let before = |count, forgotten, age: Option<u64>| (count, forgotten, age);
        let add = |window: &_, kind, at| {
            let before = add(window, kind, at);
            (before.count, before.forgotten, before.age())
        };
        assert_eq!(add(&window, 0, 0), before(0, true, None));
        assert_eq!(add(&window, 0, 99), before(1, false, Some(0)));
        assert_eq!(add(&window, 0, 100), before(0, true, None));
        let ages = |now, tenths| window.ages(0, Time(now), tenths).collect::<Vec<_>>();
        assert_eq!(ages(5_000, 51), [(50, 2), (49, 1)]);
        assert_eq!(ages(5_000, 50), [(49, 1)]);
        assert_eq!(add(&window, 0, 5_050), before(2, true, Some(50)));
        assert_eq!(window.all(0).sum::<u64>(), 2);
        let mut forgotten = Vec::new();
        window.clear(|[count, _]| forgotten.push(count));
        assert_eq!(forgotten.iter().sum::<u64>(), 2);
        assert_eq!(window.all(0).sum::<u64>(), 0);
    }

    #[test]
    fn a_clock_that_jumps_back_or_far_ahead_loses_history_and_nothing_else() {
        let window = window();
        for t in [1 << 62, 0, 5_000, 3, 1 << 63, u64::MAX, 1 << 60] {
            add(&window, 0, t);
            assert!(sum(&window, t)[0] >= 1, "{t}");
            assert!(window.forgotten_at(Time(t)) > Time(t) || t == u64::MAX);
        }
    }

    #[test]
    fn threads_that_count_together_lose_nothing() {
        let window = SlidingWindow::<1>::new(1_000, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        window.count(0, Time(5), |count| count + 1);
                    }
                });
            }
        });
        assert_eq!(window.counts(Time(5)).map(|[n]| n).sum::<u64>(), 40_000);
    }

    /// After so many tenths a bucket has the same tag again.
    const REPEATS: u64 = 5 * (1 << 23);

    #[test]
    fn tags_repeat_when_the_table_of_what_wraps_says_so() {
        let same = |n: u64| tag_of(n) == tag_of(0) && n.is_multiple_of(TENTHS);
        assert!(same(REPEATS));
        assert!(!(1..REPEATS / TENTHS).any(|n| same(n * TENTHS)));
    }

    #[test]
    fn what_is_old_never_counts_again_whenever_its_tag_repeats() {
        // Silence until the tag repeats; a call in one bucket of ten all the time; in two of them.
        for steps in [&[REPEATS][..], &[10], &[5], &[10, 5, 15], &[1 << 20]] {
            let window = window();
            for n in 0..TENTHS {
                add(&window, 1, n * 100);
            }
            let mut n = TENTHS;
            for step in steps.iter().cycle() {
                assert!(n + step <= REPEATS || sum(&window, (n + step) * 100)[1] == 0);
                n += step;
                add(&window, 0, n * 100);
                if n >= REPEATS {
                    // The others of the window in which the first counts would come back.
                    for n in n..n + TENTHS {
                        assert_eq!(sum(&window, n * 100)[1], 0, "after {n}, by {steps:?}");
                    }
                }
                if n > REPEATS + 2 * TENTHS {
                    break;
                }
            }
            assert_eq!(
                window.all(1).sum::<u64>(),
                TENTHS,
                "the totals lose nothing"
            );
        }
    }

    #[test]
    fn what_a_thread_that_is_gone_has_counted_never_comes_back() {
        let window = SlidingWindow::<1>::new(1_000, 2);
        let count = |n: u64| window.count(0, Time(n * 100), |count| count + 1);
        std::thread::scope(|scope| {
            // One of four threads at least has another stripe than this one.
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..TENTHS {
                        count(n);
                    }
                });
            }
        });
        let at = |n: u64| window.counts(Time(n * 100)).map(|[n]| n).sum::<u64>();
        assert_eq!(at(TENTHS - 1), 4 * TENTHS);
        count(REPEATS);
        assert_eq!(at(REPEATS), 1);
        assert_eq!(at(REPEATS + TENTHS - 1), 1);
    }

    #[test]
    fn a_time_that_was_read_long_ago_hides_nothing_that_was_counted_since() {
        let window = window();
        add(&window, 0, 5_000);
        add(&window, 0, 3_100);
        assert_eq!(sum(&window, 5_000), [1, 0]);
    }

    #[test]
    fn threads_that_begin_an_era_together_lose_nothing() {
        let window = SlidingWindow::<1>::new(1_000, 1);
        for era in 1..200 {
            let now = Time(((era << ERA_BITS) + era % 12) * 100);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            window.count(0, now, |count| count + 1);
                        }
                    });
                }
            });
            assert_eq!(window.counts(now).map(|[n]| n).sum::<u64>(), 60, "{era}");
        }
    }
}
