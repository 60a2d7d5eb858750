//! When a window of a limit that changes is over, and what was seen in it.

use super::{
    control::LimitControl,
    gate::{Gate, GateCounts},
    limit::{Limit, NextWindow, SampleWindow, WindowProgress},
    samples::{AGES, Done, between},
    stripes::MAX_LIMIT,
};
use crate::clock::{Time, nanos};
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// The soonest that a window is looked at again which was not over yet.
const SOON: u64 = 500_000;

/// About how often rejections look, and the most that come between two looks. Each look reads the
/// clock.
const REJECTIONS_LOOK: f64 = 1e-3;
const MOST_BETWEEN: u64 = 16;

/// What of the present window is read at every end. Times are in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// When the window began, and from when on there is something to look at.
    began: AtomicU64,
    due: AtomicU64,
    /// See [`NextWindow`].
    short: AtomicU64,
    long: AtomicU64,
    /// One in so many rejections looks; a power of two, less one.
    looks: AtomicU64,
    limit: AtomicUsize,
    long_lived: AtomicUsize,
}

impl Bounds {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            ..Self::default()
        }
    }

    pub(super) fn began(&self) -> Time {
        Time(self.began.load(Relaxed))
    }

    pub(super) fn short(&self) -> u64 {
        self.short.load(Relaxed)
    }

    pub(super) fn long(&self) -> u64 {
        self.long.load(Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(super) fn long_lived(&self) -> usize {
        self.long_lived.load(Relaxed)
    }

    #[inline]
    pub(super) fn looks_at(&self, rejections: u64) -> bool {
        rejections & self.looks.load(Relaxed) == 0
    }

    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        // A clock that was set back would otherwise keep a window open until it has caught up.
        now.0 >= self.due.load(Relaxed) || now.0 < self.began.load(Relaxed)
    }
}

/// The windows of one limit, one after the other.
#[derive(Debug)]
pub(super) struct Windows {
    rule: Box<dyn Limit>,
    next: NextWindow,
    stage: Stage,
    done: Done,
    /// What the rule has set, and how many calls may be long-lived beside that.
    limit: usize,
    most_long_lived: usize,
    /// When the calls in flight last became an age older.
    aged: Time,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nothing has been seen yet.
    New,
    /// The limit was lowered then, and more calls are in flight than it allows.
    Draining(Time),
    Open(Began),
}

/// What was so when the window began.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: Time,
    integral: u64,
    arrived: u64,
    blocked: u64,
    rejected: u64,
}

impl Windows {
    pub(super) fn new(rule: Box<dyn Limit>, limit: usize, most_long_lived: usize) -> Self {
        Self {
            next: rule.close(),
            rule,
            stage: Stage::New,
            done: Done::default(),
            limit,
            most_long_lived,
            aged: Time(0),
        }
    }

    /// Looks what there is to do. Returns whether the number of permits was changed.
    pub(super) fn look(
        &mut self,
        control: &LimitControl,
        gate: &Gate,
        rejected: impl FnOnce() -> u64,
        now: Time,
    ) -> bool {
        self.grow_older(control, now);
        let (integral, long_lived) = control.samples.fold(&mut self.done, now);
        let bounds = &control.bounds.0;
        let counts = gate.counts();
        // The stripes were read one after the other, so a call that moved meanwhile may be missing.
        let long_lived = usize::try_from(long_lived as i64).unwrap_or(0);
        let long_lived = long_lived.min(counts.in_flight);
        bounds.long_lived.store(long_lived, Relaxed);
        control.see_in_flight(counts.in_flight);
        let in_flight = counts.in_flight.saturating_sub(long_lived);
        let seen = Began::seen(now, integral, &counts, rejected());
        match self.stage {
            Stage::Open(began) if began.at <= now => {
                self.close(control, began, seen, in_flight, long_lived);
            }
            Stage::Draining(since)
                if since <= now && in_flight > self.limit && now.since(since) < self.next.max =>
            {
                bounds.due.store(now.0, Relaxed);
            }
            // New | Draining => Open
            Stage::Open(_) | Stage::Draining(_) | Stage::New => {
                self.begin(control, seen, in_flight);
            }
        }
        bounds.limit.store(self.limit, Relaxed);
        let permits = self.limit + long_lived.min(self.most_long_lived);
        let permits = permits.min(MAX_LIMIT);
        if permits != counts.limit {
            gate.set_limit(permits);
        }
        permits != counts.limit
    }

    /// Lets calls become older when it is time.
    fn grow_older(&mut self, control: &LimitControl, now: Time) {
        let age = (nanos(self.next.long_lived) / AGES as u64).max(1);
        if self.aged == Time(0) {
            self.aged = now;
        } else if now < self.aged {
            control.samples.forget_ages(now);
            self.aged = now;
        }
        let ages = now.since(self.aged).as_nanos() as u64 / age;
        if ages > 0 {
            control.samples.grow_older(ages, age, now);
            self.aged = now;
        }
    }

    /// Closes the window if it is over.
    fn close(
        &mut self,
        control: &LimitControl,
        began: Began,
        seen: Began,
        in_flight: usize,
        long_lived: usize,
    ) {
        let integral = self.integral(began, seen);
        let so_far = WindowProgress {
            elapsed: seen.at.since(began.at),
            within: self.done.within.count(),
            at_limit: self.done.at_limit.count(),
            lost: self.done.lost,
            latency: match self.done.ends() {
                0 => 0.0,
                ends => integral / ends as f64,
            },
        };
        if !self.next.is_over(&so_far) {
            let due = due_again(&self.next, &so_far, seen.at);
            self.set_due(control, due);
            return;
        }
        let window = self.window(control, began, seen, in_flight, long_lived);
        let rejected = seen.rejected.saturating_sub(began.rejected);
        let looks = rejected as f64 / window.seconds().max(1e-3) * REJECTIONS_LOOK;
        let looks = (looks as u64).clamp(1, MOST_BETWEEN).next_power_of_two();
        control.bounds.0.looks.store(looks - 1, Relaxed);
        let limit = self.rule.on_window(&window, seen.at).clamp(1, MAX_LIMIT);
        self.next = self.rule.close();
        let lowered = limit < self.limit && in_flight > limit;
        self.limit = limit;
        if lowered {
            self.stage = Stage::Draining(seen.at);
            // What ends from now on is in no window.
            control.bounds.0.began.store(u64::MAX >> 1, Relaxed);
            control.bounds.0.due.store(seen.at.0, Relaxed);
        } else {
            self.begin(control, seen, in_flight);
        }
    }

    fn begin(&mut self, control: &LimitControl, seen: Began, in_flight: usize) {
        self.stage = Stage::Open(seen);
        self.done = Done::default();
        control.peak.0.store(in_flight, Relaxed);
        let (bounds, next) = (&control.bounds.0, &self.next);
        bounds.short.store(nanos(next.short), Relaxed);
        bounds.long.store(nanos(next.long), Relaxed);
        bounds.began.store(seen.at.0, Relaxed);
        let min = nanos(next.min.min(next.max));
        self.set_due(control, Time(seen.at.0.saturating_add(min)));
    }

    /// Sets when there is something to look at: then, or when calls become an age older.
    fn set_due(&self, control: &LimitControl, due: Time) {
        let age = nanos(self.next.long_lived) / AGES as u64;
        let older = self.aged.0.saturating_add(age);
        control.bounds.0.due.store(due.0.min(older), Relaxed);
    }

    fn integral(&self, began: Began, seen: Began) -> f64 {
        (between(began.integral, seen.integral) + self.done.aside).max(0.0)
    }

    fn window(
        &self,
        control: &LimitControl,
        began: Began,
        seen: Began,
        in_flight: usize,
        long_lived: usize,
    ) -> SampleWindow {
        let blocked = seen.blocked.saturating_sub(began.blocked);
        let arrived = seen.arrived.saturating_sub(began.arrived);
        let (done, peak) = (&self.done, control.peak.0.load(Relaxed));
        SampleWindow {
            ended: seen.at,
            completions: done.completions,
            failures: done.failures,
            overloaded: done.overloaded,
            lost: done.lost,
            outlived: done.outlived,
            outlived_sum: done.outlived_sum,
            in_flight_integral: self.integral(began, seen),
            latency_sum: done.sum,
            latency_squares: done.squares,
            latency_min: done.min,
            peak_in_flight: if blocked > 0 {
                peak.max(self.limit)
            } else {
                peak
            },
            // Arrivals at random see averages over time.
            saturated_share: match arrived {
                0 => f64::from(u8::from(in_flight >= self.limit)),
                _ => (blocked as f64 / arrived as f64).min(1.0),
            },
            long_lived,
            within: done.within.latencies(),
            at_limit: done.at_limit.latencies(),
            used: blocked > 0,
            ..SampleWindow::starting(began.at, self.limit)
        }
    }
}

impl Began {
    fn seen(at: Time, integral: u64, counts: &GateCounts, rejected: u64) -> Self {
        let arrived = counts.admitted + counts.joined + rejected;
        Self {
            at,
            integral,
            blocked: counts.joined + rejected,
            rejected,
            arrived: arrived.saturating_sub(counts.granted),
        }
    }
}

/// Returns when to look again: half-way to when it seems to be over, so that a few looks are enough
/// and none is late by much.
fn due_again(next: &NextWindow, so_far: &WindowProgress, now: Time) -> Time {
    let elapsed = nanos(so_far.elapsed);
    let seen = so_far.at_limit.max(so_far.within / 2);
    let missing = next.ends.saturating_sub(seen) as f64 / seen.max(1) as f64;
    let by_ends = (elapsed as f64 * missing) as u64 / 2;
    let lasts = Duration::try_from_secs_f64(next.latencies * so_far.latency).unwrap_or(next.max);
    let by_time = nanos(next.min.max(lasts)).saturating_sub(elapsed);
    let by_max = nanos(next.max).saturating_sub(elapsed);
    // Not much later: traffic may come to life at any moment.
    let wait = by_ends
        .min(nanos(next.min) / 4)
        .max(by_time / 2)
        .min(by_max);
    Time(now.0.saturating_add(wait.max(SOON)))
}
