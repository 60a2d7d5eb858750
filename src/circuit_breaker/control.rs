//! Transitions. They are rare, so they take a lock; calls do not.

use super::{
    breaker::{
        Breaker, CLOSED, EPOCH_SHIFT, FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OBSERVING, OPEN,
        PHASE, RAMP, Window, epoch_of,
    },
    config::Config,
    probes::{ProbeVerdict, Probes},
    snapshot::{Mode, Reason, Snapshot, State, Transition},
};
use crate::clock::{Time, nanos};
use std::{
    sync::{
        MutexGuard, PoisonError,
        atomic::Ordering::{Relaxed, Release},
    },
    time::Duration,
};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Control {
    probes: Probes,
    /// How often the probes have failed since the breaker was closed.
    relapses: i32,
    last: Transition,
}

impl Control {
    pub(super) fn new(cfg: &Config) -> Self {
        Self {
            probes: Probes::new(cfg.probes, cfg.needed, cfg.lease),
            relapses: 0,
            last: Transition {
                from: State::Closed,
                to: State::Closed,
                reason: Reason::Created,
                epoch: 0,
            },
        }
    }
}

/// A transition to tell of, once the lock is released: who hears of it may call the breaker.
#[must_use]
struct News(Option<Transition>);

pub(super) fn state_of(word: u64) -> State {
    match word & PHASE {
        OPEN | FORCED_OPEN => State::Open,
        HALF_OPEN => State::HalfOpen,
        _ => State::Closed,
    }
}

const LEAST_SHARE: f64 = 0.1;

impl Breaker {
    /// The share of calls to let in with this much of the ramp left.
    ///
    /// Envoy's slow start with its defaults: `max(0.1, elapsed / window)`.
    pub(super) fn share(&self, left: Duration) -> f64 {
        let ramp = self.cfg.ramp.unwrap_or(1).max(1);
        (1.0 - nanos(left) as f64 / ramp as f64).clamp(LEAST_SHARE, 1.0)
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every transition ends here. The next epoch begins: permits of this one teach nothing more.
    fn enter(&self, control: &mut Control, phase: u64, until: Time, reason: Reason) -> News {
        let word = self.word();
        let next = (epoch_of(word) + 1) << EPOCH_SHIFT | word & OBSERVING | phase;
        self.head.0.until.store(until.0, Relaxed);
        self.head.0.word.store(next, Release);
        let (from, to) = (state_of(word), state_of(next));
        News((from != to).then(|| {
            control.last = Transition {
                from,
                to,
                reason,
                epoch: epoch_of(next),
            };
            control.last
        }))
    }

    fn tell(&self, News(news): News) {
        let Some(news) = news else { return };
        if let Some(events) = self.events.get() {
            // Two threads may get here in the wrong order; the earlier transition stays unsaid.
            events.send_if_modified(|last| {
                let later = news.epoch > last.epoch;
                if later {
                    *last = news;
                }
                later
            });
        }
        if news.to == State::Open {
            // Whoever is parked behind a service that is not ready gets its rejection now.
            self.wakers.wake_all();
        }
    }

    pub(super) fn transitions(&self) -> watch::Receiver<Transition> {
        let control = self.lock();
        let events = self.events.get_or_init(|| watch::Sender::new(control.last));
        events.subscribe()
    }

    fn forget(&self) {
        match &self.window {
            Window::Time(window) => window.clear(&self.totals),
            Window::Count(window) => window.clear(),
        }
        self.row.0.store(0, Relaxed);
    }

    // Closed => Open
    #[cold]
    pub(super) fn trip(&self, seen: u64, reason: Reason, now: Time) {
        let mut control = self.lock();
        let word = self.word();
        if epoch_of(word) != epoch_of(seen) || !matches!(word & PHASE, CLOSED | RAMP) {
            return;
        }
        control.relapses = 0;
        let news = self.open(&mut control, reason, now);
        drop(control);
        self.tell(news);
    }

    // Closed | HalfOpen => Open
    fn open(&self, control: &mut Control, reason: Reason, now: Time) -> News {
        self.trips.fetch_add(1, Relaxed);
        let until = now.0.saturating_add(self.open_time(control.relapses));
        let until = until.max(self.hint.load(Relaxed));
        self.enter(control, OPEN, Time(until), reason)
    }

    /// Grows like Envoy's outlier ejection, `min(base * times, max)` with jitter on top, but by a
    /// factor instead of a summand; and the jitter goes both ways, as in Polly, so that its mean is
    /// what was asked for.
    fn open_time(&self, relapses: i32) -> u64 {
        let cfg = &self.cfg;
        let grown = cfg.open_for as f64 * cfg.growth.powi(relapses);
        let base = grown.min(cfg.max_open_for as f64);
        if cfg.jitter == 0.0 {
            return base as u64;
        }
        (base * (1.0 + cfg.jitter * (2.0 * cfg.dice.unit() - 1.0))) as u64
    }

    /// A call is in after the deadline, or while probing: its lease, or when to come back.
    pub(super) fn begin_probe(&self, now: Time) -> Option<(u64, Result<u64, Duration>)> {
        let mut control = self.lock();
        let mut word = self.word();
        let mut news = News(None);
        if word & PHASE == OPEN {
            if now < self.until() {
                // Somebody probed in vain since we looked.
                return Some((word, Err(self.until().since(now))));
            }
            // Open => HalfOpen
            control.probes.restart();
            news = self.enter(&mut control, HALF_OPEN, Time(0), Reason::WaitedOut);
            word = self.word();
        } else if word & PHASE != HALF_OPEN {
            return None;
        }
        let begun = control.probes.begin(now).map_err(|eldest| {
            // A healthy one ends before it is slow; one that has not may take its whole lease.
            let healthy = eldest.0.saturating_add(self.cfg.slow);
            let lease = eldest.0.saturating_add(self.cfg.lease);
            let next = if now.0 < healthy {
                healthy.min(lease)
            } else {
                lease
            };
            Time(next).since(now)
        });
        drop(control);
        self.tell(news);
        Some((word, begun))
    }

    pub(super) fn end_probe(&self, admitted: u64, lease: u64, well: Option<bool>, now: Time) {
        let mut control = self.lock();
        if epoch_of(self.word()) != epoch_of(admitted) {
            return;
        }
        let news = match control.probes.end(lease, well, now) {
            None => return,
            // HalfOpen => Closed
            Some(ProbeVerdict::Well) => {
                control.relapses = 0;
                self.forget();
                let (phase, until) = match self.cfg.ramp {
                    Some(ramp) => {
                        let left = ramp as f64 * (1.0 - LEAST_SHARE);
                        (RAMP, now.0.saturating_add(left as u64))
                    }
                    None => (CLOSED, 0),
                };
                self.enter(&mut control, phase, Time(until), Reason::ProbesSucceeded)
            }
            // HalfOpen => Open
            Some(ProbeVerdict::Unwell) => {
                control.relapses = control.relapses.saturating_add(1);
                self.open(&mut control, Reason::ProbesFailed, now)
            }
        };
        drop(control);
        self.tell(news);
    }

    /// The ramp is over: the same epoch goes on, with everybody let in.
    #[cold]
    pub(super) fn end_ramp(&self, seen: u64) {
        let _control = self.lock();
        if self.word() == seen {
            self.head.0.word.store(seen & !PHASE | CLOSED, Release);
        }
    }

    /// A failure in the ramp. False if the share is as small as it gets.
    pub(super) fn halve_share(&self, seen: u64, now: Time) -> bool {
        let _control = self.lock();
        if self.word() != seen {
            return false;
        }
        let share = self.share(self.until().since(now));
        if share <= LEAST_SHARE {
            return false;
        }
        let left = self.cfg.ramp.unwrap_or(0) as f64 * (1.0 - (share / 2.0).max(LEAST_SHARE));
        self.head
            .0
            .until
            .store(now.0.saturating_add(left as u64), Relaxed);
        true
    }

    // Any => Open, for good
    pub(super) fn force_open(&self) {
        let mut control = self.lock();
        let news = self.enter(&mut control, FORCED_OPEN, Time(0), Reason::Forced);
        drop(control);
        self.tell(news);
        // Even if it was open: past its deadline it refused nobody.
        self.wakers.wake_all();
    }

    // Any => Closed, for good or until the rules decide
    pub(super) fn close(&self, phase: u64, reason: Reason) {
        let mut control = self.lock();
        control.relapses = 0;
        self.hint.store(0, Relaxed);
        self.forget();
        let news = self.enter(&mut control, phase, Time(0), reason);
        drop(control);
        self.tell(news);
    }

    pub(super) fn observe(&self, only: bool) {
        let control = self.lock();
        let word = self.word();
        let word = if only {
            word | OBSERVING
        } else {
            word & !OBSERVING
        };
        self.head.0.word.store(word, Release);
        drop(control);
        self.wakers.wake_all();
    }

    pub(super) fn state(&self, now: Time) -> State {
        let word = self.word();
        match word & PHASE {
            OPEN if now >= self.until() => State::HalfOpen,
            _ => state_of(word),
        }
    }

    pub(super) fn snapshot(&self, now: Time) -> Snapshot {
        let word = self.word();
        let counts = self.counts(now);
        let left = self.until().since(now);
        let unfolded = match &self.window {
            Window::Time(window) => window.unfolded(),
            Window::Count(_) => (0, 0),
        };
        Snapshot {
            name: self.cfg.name,
            state: self.state(now),
            mode: match word & PHASE {
                FORCED_OPEN => Mode::ForcedOpen,
                FORCED_CLOSED => Mode::ForcedClosed,
                _ if word & OBSERVING != 0 => Mode::ObserveOnly,
                _ => Mode::Automatic,
            },
            calls: counts.calls(),
            failures: counts.failures,
            slow: counts.slow,
            consecutive_failures: self.row(),
            in_flight_slow: self.overdue(word, now),
            admitted_share: match word & PHASE {
                RAMP => self.share(left),
                _ => 1.0,
            },
            retry_after: match word & PHASE {
                OPEN if !left.is_zero() => Some(left),
                _ => None,
            },
            rejected: self.totals.sum(|c| &c.rejected),
            would_reject: self.totals.sum(|c| &c.would_reject),
            successes_total: self.totals.sum(|c| &c.successes) + unfolded.0,
            failures_total: self.totals.sum(|c| &c.failures) + unfolded.1,
            slow_total: self.totals.sum(|c| &c.slow),
            trips: self.trips.load(Relaxed),
        }
    }
}
