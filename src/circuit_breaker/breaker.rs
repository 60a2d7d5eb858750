//! The breaker: what a call passes on its way in and out.
//!
//! One word says everything that a call has to know, `epoch | observing:1 | phase:3`. It is written
//! on transitions only, under the lock of `control.rs`, so that reading it costs every thread
//! nothing. Permits carry the epoch; what ends in a later one teaches nothing.

use super::{
    config::{Config, Size},
    control::Control,
    count::CountWindow,
    inflight::InFlight,
    snapshot::{Reason, Transition},
    totals::Totals,
    wakers::Wakers,
    window::{TimeWindow, WindowCounts},
};
use crate::{
    classify::Outcome,
    clock::{Now, Time, nanos},
    error::{Kind, Rejected},
    guard::End,
    shared::Padded,
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
    task::Context,
    time::Duration,
};
use tokio::sync::watch;

pub(super) const PHASE: u64 = 7;
pub(super) const CLOSED: u64 = 0;
/// Until a deadline.
pub(super) const OPEN: u64 = 1;
pub(super) const HALF_OPEN: u64 = 2;
pub(super) const FORCED_OPEN: u64 = 3;
pub(super) const FORCED_CLOSED: u64 = 4;
/// Closed, with a share of the calls let in that grows until a deadline.
pub(super) const RAMP: u64 = 5;
pub(super) const OBSERVING: u64 = 8;
pub(super) const EPOCH_SHIFT: u32 = 4;

/// In the word of the failures in a row: a rate is over its threshold, but the calls are too few.
const WATCH: u64 = 1 << 63;

/// Of a permit that teaches nothing: open, in an epoch that never comes.
const UNTAUGHT: u64 = !PHASE | OPEN;

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) head: Padded<Head>,
    /// Failures since the last success, and [`WATCH`]. Nearly always zero, and then never written.
    pub(super) row: Padded<AtomicU64>,
    pub(super) window: Window,
    pub(super) totals: Totals,
    pub(super) in_flight: Option<InFlight>,
    /// Before this time the dependency does not want to be called.
    pub(super) hint: AtomicU64,
    pub(super) trips: AtomicU64,
    pub(super) control: Mutex<Control>,
    pub(super) wakers: Wakers,
    pub(super) events: OnceLock<watch::Sender<Transition>>,
    pub(super) cfg: Arc<Config>,
}

#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) word: AtomicU64,
    /// When the phase ends, if it has an end. Written before the word.
    pub(super) until: AtomicU64,
}

#[derive(Debug)]
pub(super) enum Window {
    Time(TimeWindow),
    Count(CountWindow),
}

/// What an admitted call holds.
#[derive(Debug)]
pub struct Permit {
    word: u64,
    /// When the call began, as far as anybody has asked; 0 is not yet.
    began: u64,
    /// A probe's lease; a counted running call's shard + 1; else 0.
    place: u64,
}

/// What the end of a call means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Meaning {
    Well,
    Unwell,
    Nothing,
}

#[inline]
pub(super) fn epoch_of(word: u64) -> u64 {
    word >> EPOCH_SHIFT
}

impl Breaker {
    /// `shards` must be a power of two.
    pub(super) fn new(cfg: Arc<Config>, shards: usize) -> Self {
        let head = Head::default();
        if cfg.observe {
            head.word.store(OBSERVING, Relaxed);
        }
        Self {
            head: Padded(head),
            row: Padded::default(),
            window: match cfg.size {
                Size::Time(window) => Window::Time(TimeWindow::new(window, shards)),
                Size::Count(calls) => Window::Count(CountWindow::new(calls)),
            },
            totals: Totals::new(shards),
            in_flight: cfg.slow_rate.map(|_| InFlight::new(cfg.slow, shards)),
            hint: AtomicU64::new(0),
            trips: AtomicU64::new(0),
            control: Mutex::new(Control::new(&cfg)),
            wakers: Wakers::default(),
            events: OnceLock::new(),
            cfg,
        }
    }

    #[inline]
    pub(super) fn word(&self) -> u64 {
        self.head.0.word.load(Acquire)
    }

    pub(super) fn until(&self) -> Time {
        Time(self.head.0.until.load(Relaxed))
    }

    #[inline]
    pub(super) fn admit(&self, now: &Now) -> Result<Permit, Rejected> {
        let word = self.word();
        if word & PHASE == CLOSED {
            return Ok(Permit::new(word, now.peek()));
        }
        // Taken apart, so that the fast path need not put its permit where a call can write to it.
        match self.admit_unless_open(word, now) {
            Ok(Permit { word, began, place }) => Ok(Permit { word, began, place }),
            Err(rejected) => Err(rejected),
        }
    }

    #[inline(never)]
    fn admit_unless_open(&self, word: u64, now: &Now) -> Result<Permit, Rejected> {
        match word & PHASE {
            OPEN => {
                let time = now.get();
                let until = self.until();
                match time < until {
                    true => self.refuse(word, Some(until.since(time)), time),
                    // Open => HalfOpen, by the first call after the deadline.
                    false => self.probe(time),
                }
            }
            HALF_OPEN => self.probe(now.get()),
            FORCED_OPEN => {
                self.totals.own().rejected.fetch_add(1, Relaxed);
                Err(Rejected::new(Kind::CircuitOpen, self.cfg.name))
            }
            RAMP => {
                let time = now.get();
                let left = self.until().since(time);
                if left.is_zero() {
                    self.end_ramp(word);
                } else if self.cfg.dice.unit() >= self.share(left) {
                    return self.refuse(word, Some(left), time);
                }
                Ok(Permit::new(word, Some(time)))
            }
            _ => Ok(Permit::new(word, now.peek())),
        }
    }

    /// Rejects the call; an observing breaker lets it in, and will not learn from it.
    fn refuse(
        &self,
        word: u64,
        retry_after: Option<Duration>,
        now: Time,
    ) -> Result<Permit, Rejected> {
        if word & OBSERVING != 0 {
            self.totals.own().would_reject.fetch_add(1, Relaxed);
            return Ok(Permit::new(UNTAUGHT, Some(now)));
        }
        self.totals.own().rejected.fetch_add(1, Relaxed);
        let rejected = Rejected::new(Kind::CircuitOpen, self.cfg.name);
        Err(match retry_after {
            Some(after) => rejected.with_retry_after(after),
            None => rejected,
        })
    }

    #[cold]
    fn probe(&self, now: Time) -> Result<Permit, Rejected> {
        match self.begin_probe(now) {
            Some((word, Ok(place))) => Ok(Permit {
                place,
                ..Permit::new(word, Some(now))
            }),
            Some((word, Err(retry_after))) => self.refuse(word, Some(retry_after), now),
            // It was closed or forced while we looked.
            None => self.admit(&Now::at(now)),
        }
    }

    #[inline]
    pub(super) fn on_pending(&self, permit: &mut Permit, now: &Now) {
        if permit.began == 0 {
            permit.began = now.get().0.max(1);
        }
        if let Some(in_flight) = &self.in_flight
            && matches!(permit.word & PHASE, CLOSED | RAMP)
            && permit.place == 0
            && let Some(shard) = in_flight.enter(epoch_of(permit.word), Time(permit.began))
        {
            permit.place = shard as u64 + 1;
            if self.first_look(permit.word, now.get()) {
                self.judge(permit.word, now.get());
            }
        }
    }

    #[inline]
    pub(super) fn settle(&self, permit: Permit, end: End, now: &Now) {
        let word = self.word();
        if end == End::Done(Outcome::Success)
            && permit.place == 0
            && epoch_of(word) == epoch_of(permit.word)
            && word & PHASE == CLOSED
            && let Window::Time(window) = &self.window
            && !self.was_slow(&permit, now)
        {
            // Earlier calls may have left the window with this one, so that a rate is reached
            // without a failure.
            let turned =
                window.add(false, &self.totals, now.get()) | self.first_look(word, now.get());
            if turned || self.row.0.load(Relaxed) != 0 {
                self.look_again(word, now.get());
            }
            return;
        }
        self.settle_other(permit, end, now);
    }

    #[inline]
    fn first_look(&self, word: u64, now: Time) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|calls| calls.first_look(epoch_of(word), now))
    }

    #[inline]
    fn was_slow(&self, permit: &Permit, now: &Now) -> bool {
        permit.began != 0 && now.get().0.saturating_sub(permit.began) >= self.cfg.slow
    }

    fn settle_other(&self, permit: Permit, end: End, now: &Now) {
        if let Some(in_flight) = &self.in_flight
            && matches!(permit.word & PHASE, CLOSED | RAMP)
            && let Some(shard) = permit.place.checked_sub(1)
        {
            in_flight.leave(shard as usize, epoch_of(permit.word), Time(permit.began));
        }
        let slow = || self.was_slow(&permit, now);
        let meaning = match end {
            End::Done(Outcome::Success) => Meaning::Well,
            End::Done(Outcome::Failure) | End::Panicked => Meaning::Unwell,
            // Its caller waited longer than anybody should: the dependency hangs.
            End::Cancelled if slow() => Meaning::Unwell,
            End::Cancelled | End::NeverStarted | End::Done(Outcome::Ignored) => Meaning::Nothing,
            End::Done(Outcome::Overloaded { retry_after }) => {
                if let Some(after) = retry_after {
                    self.heed(after, now.get());
                }
                Meaning::Nothing
            }
        };
        let probe = permit.word & PHASE == HALF_OPEN;
        if meaning == Meaning::Nothing && !probe {
            return;
        }
        let slow = slow();
        if slow && meaning != Meaning::Nothing {
            self.totals.own().slow.fetch_add(1, Relaxed);
        }
        let word = self.word();
        if probe {
            let well = match meaning {
                Meaning::Well => Some(!(slow && self.cfg.slow_rate.is_some())),
                Meaning::Unwell => Some(false),
                Meaning::Nothing => None,
            };
            self.count_only(meaning);
            self.end_probe(permit.word, permit.place, well, now.get());
        } else if epoch_of(word) != epoch_of(permit.word) {
            self.count_only(meaning);
        } else {
            self.learn(word, meaning == Meaning::Unwell, slow, now.get());
        }
    }

    /// A call of this epoch ended.
    fn learn(&self, word: u64, failed: bool, slow: bool, now: Time) {
        let turned = match &self.window {
            Window::Time(window) if slow => window.add_slow(failed, &self.totals, now),
            Window::Time(window) => window.add(failed, &self.totals, now),
            Window::Count(window) => {
                window.add(failed, slow);
                self.count_only(if failed {
                    Meaning::Unwell
                } else {
                    Meaning::Well
                });
                false
            }
        };
        let turned = turned | self.first_look(word, now);
        if !failed {
            if turned || slow || self.row.0.load(Relaxed) != 0 {
                self.look_again(word, now);
            }
            return;
        }
        let row = (self.row.0.fetch_add(1, Relaxed) + 1) & !WATCH;
        if word & PHASE == RAMP && self.halve_share(word, now) {
            return;
        }
        match self.cfg.consecutive {
            Some(limit) if row >= limit => self.trip(word, Reason::ConsecutiveFailures, now),
            _ => self.judge(word, now),
        }
    }

    /// A success for which something is left to do.
    #[cold]
    fn look_again(&self, word: u64, now: Time) {
        if self.row.0.load(Relaxed) & !WATCH != 0 {
            self.row.0.fetch_and(WATCH, Relaxed);
        }
        self.judge(word, now);
    }

    /// Are the rates over their thresholds?
    fn judge(&self, word: u64, now: Time) {
        if !matches!(word & PHASE, CLOSED | RAMP) {
            return;
        }
        let counts = self.counts(now);
        // Dividing rounds to the nearest, so 3 of 30 is the same number as 0.1: equal trips.
        let over = |part: u64, calls: u64, limit: Option<f64>| {
            calls > 0 && limit.is_some_and(|limit| part as f64 / calls as f64 >= limit)
        };
        let failing = over(counts.failures, counts.calls(), self.cfg.failure_rate);
        let overdue = self.overdue(word, now);
        let (slow, calls) = (counts.slow + overdue, counts.calls() + overdue);
        let dragging = over(slow, calls, self.cfg.slow_rate);
        if failing && counts.calls() >= self.cfg.minimum {
            self.trip(word, Reason::FailureRate, now);
        } else if dragging && calls >= self.cfg.minimum {
            self.trip(word, Reason::SlowCallRate, now);
        } else if (failing || dragging) != (self.row.0.load(Relaxed) & WATCH != 0) {
            // From now on, or no longer, successes have to look: they may complete the minimum.
            match failing || dragging {
                true => self.row.0.fetch_or(WATCH, Relaxed),
                false => self.row.0.fetch_and(!WATCH, Relaxed),
            };
        }
    }

    pub(super) fn counts(&self, now: Time) -> WindowCounts {
        match &self.window {
            Window::Time(window) => window.counts(now),
            Window::Count(window) => window.counts(),
        }
    }

    pub(super) fn overdue(&self, word: u64, now: Time) -> u64 {
        let in_flight = self.in_flight.as_ref();
        in_flight.map_or(0, |calls| calls.overdue(epoch_of(word), now))
    }

    pub(super) fn row(&self) -> u64 {
        self.row.0.load(Relaxed) & !WATCH
    }

    /// The call ended, but teaches nothing here and now.
    fn count_only(&self, meaning: Meaning) {
        let own = self.totals.own();
        match meaning {
            Meaning::Well => own.successes.fetch_add(1, Relaxed),
            Meaning::Unwell => own.failures.fetch_add(1, Relaxed),
            Meaning::Nothing => 0,
        };
    }

    /// The dependency said when it wants to be called again. Not believed beyond a day.
    fn heed(&self, after: Duration, now: Time) {
        const DAY: u64 = 86_400_000_000_000;
        let until = now.0.saturating_add(nanos(after).min(DAY));
        self.hint.store(until, Relaxed);
    }

    #[inline]
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        // Parked first, so that a trip between a look and the parking is not missed.
        self.refuses_all(now) || {
            self.wakers.park(cx.waker(), now);
            self.refuses_all(now)
        }
    }

    fn refuses_all(&self, now: &Now) -> bool {
        let word = self.word();
        match word & PHASE {
            FORCED_OPEN => true,
            OPEN => word & OBSERVING == 0 && now.get() < self.until(),
            _ => false,
        }
    }
}

impl Permit {
    #[inline]
    fn new(word: u64, began: Option<Time>) -> Self {
        let began = began.map_or(0, |time| time.0.max(1));
        Self {
            word,
            began,
            place: 0,
        }
    }
}
