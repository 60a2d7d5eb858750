//! The default: two limits are tried, and the latencies under them compared.

mod config;
mod point;
#[cfg(test)]
mod tests;

use super::{HOPELESS, Limit, NextWindow, SampleWindow};
use crate::clock::Time;
use point::{Finding, Point, seconds_or_0};
use std::time::Duration;

/// A limit that finds out how many calls the service works on at once, and allows that number, a
/// quarter of it more, and some for bursts.
///
/// Up to that number, latency does not depend on the limit. Above it, calls wait inside the
/// service, and each further one adds to the latency of all. So two limits and the latencies under
/// them tell where the number lies between them, whatever the latencies are, also when the service
/// has become slower or faster. Latencies are compared by means
/// without the slowest tenth, because waiting adds the same to all calls, and a few slow ones would
/// hide it.
///
/// While calls find no permit, the rule tries a lower limit now and then, for as long as about a
/// hundred calls and four latencies take. That is about as low as the number it knows, which costs
/// no work; to see whether the number has become smaller, it is half of that in every third try.
/// The more work a try costs, the rarer they are: about 1 % of it in all.
///
/// The limit grows only while calls find no permit: at first by doubling, for as long as latency
/// stays the same. Failures prove no capacity: once they are more than a tenth, it is the successes
/// per second that must grow with the limit. It halves when most calls are lost to timeouts.
///
/// It takes a service for one that works on calls in order. One that shares its processor evenly
/// among calls that vary gets a limit several times too high, and where some calls go to a narrow
/// part of the service and others to a wide one, the limit is that of the two together: each part
/// needs a load shed of its own.
#[doc(alias = "adaptive_concurrency")]
#[derive(Clone, Debug)]
pub struct Adaptive {
    initial: usize,
    min: usize,
    max: usize,
    /// The limit, before it is rounded down.
    n: f64,
    /// How many calls the service works on at once; 0 while unknown.
    parallelism: f64,
    /// The latency of a call that does not wait, in seconds, if the parallelism was seen from both
    /// sides; else 0.
    unqueued: f64,
    phase: Phase,
    /// Whether nothing has been found yet but that the limit was too low.
    starting: bool,
    /// Whether the limit was found too low, or nothing was found.
    too_low: bool,
    /// How calls vary where they do not wait.
    variation: f64,
    /// The share of arrivals that found no permit, in what was last compared.
    saturated: f64,
    tries: Tries,
    /// What is usual since the last try, in seconds: the mean latency by Little's law, and the
    /// latency of calls that ended. The least one since the limit was last suspected.
    little: f64,
    usual: f64,
    least: f64,
    /// Windows in a row in which latency was out of proportion.
    slow: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The limit holds.
    Watching,
    /// A lower one is tried, and compared with what was seen above. If that was itself a try, this
    /// is where the parallelism seemed to lie then.
    Lowered {
        above: Point,
        to: f64,
        lies: Option<f64>,
    },
    /// A higher one holds, and is compared with what was seen below.
    Raised { below: Point },
}

/// When limits are tried.
#[derive(Clone, Copy, Debug)]
struct Tries {
    began: Time,
    ended: Time,
    /// How long to wait for the next one.
    pause: Duration,
    /// How much is believed of what was found: of 1.
    trust: f64,
    /// Since the parallelism was looked for below what was known.
    since_below: u32,
    /// How long to wait for the next one that is only suspected to be needed.
    patience: Duration,
    /// The parallelism when the last one ended.
    found: f64,
}

/// The share of the work that tries may cost.
const COST: f64 = 0.01;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A try may have lasted for a night in which nobody called.
const NEVER_LONGER: Duration = Duration::from_secs(60);
/// The least time between tries if latency has gone out of proportion.
const SOONEST: Duration = Duration::from_millis(500);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(30);
const LITTLE_TRUST: f64 = 0.1;

/// Seconds: what takes longer is long-lived in any service.
const MOST_USUAL: f64 = 10.0;

/// The share of arrivals without a permit above which a limit is in use.
const IN_USE: f64 = 0.1;

impl Adaptive {
    fn limit(&self) -> usize {
        let n = match self.phase {
            Phase::Lowered { to, .. } => to,
            Phase::Watching | Phase::Raised { .. } => self.n,
        };
        // A float that is too large or not a number becomes the nearest bound.
        (n as usize).clamp(self.min, self.max)
    }

    /// Returns the limit for so many calls that the service works on at once. One that is above it
    /// keeps the service busy while permits change hands, and between bursts: for that a small
    /// service, one whose calls vary, and one that is not overloaded all the time need more.
    fn target(&self, parallelism: f64) -> f64 {
        let varies = self.variation.sqrt().min(1.0);
        let bursts = 0.8 + 1.7 * varies + 3.0 * (1.0 - self.saturated);
        1.25 * parallelism + (1.0 + varies) * parallelism.sqrt() + bursts
    }

    fn learn_usual(&mut self, window: &SampleWindow) {
        let (mut calls, mut sum) = (window.completions, window.latency_sum);
        if window.outlived > calls / 3 {
            // So many are no streams: the service has become slower.
            calls = calls.saturating_add(window.outlived);
            sum += window.outlived_sum;
        }
        if calls > 0 {
            self.usual = seconds_or_0(sum / calls as f64).min(MOST_USUAL);
        }
    }

    fn watch(&mut self, window: &SampleWindow, seen: Point, now: Time) {
        if window.ends() == 0 {
            return;
        }
        if seen.unanswered > 0.5 {
            // Most callers leave before they are answered: the fewer, the sooner one is. A few who
            // leave a quiet service say nothing.
            if window.lost.saturating_add(window.overloaded) >= HOPELESS {
                self.n = (self.n.min(window.peak_in_flight as f64) / 2.0).max(1.0);
            }
            return;
        }
        let latency = seconds_or_0(window.within.trimmed);
        if window.within.count >= 30 && latency > 0.0 {
            self.least = self.least.min(latency);
        }
        if self.little == 0.0 {
            self.little = seen.little;
        }
        let out_of_proportion = match seen.at_limit {
            true => seen.little > 1.6 * self.little,
            false => seen.count >= 30 && seen.n > 2.0 && seen.latency > 2.5 * self.least,
        };
        self.slow = if out_of_proportion { self.slow + 1 } else { 0 };
        let since = now.since(self.tries.ended);
        let soonest = if seen.at_limit {
            SOONEST
        } else {
            self.tries.patience
        };
        let is_due = since > self.tries.pause;
        let in_use = seen.at_limit && seen.saturated > IN_USE;
        let hardly = window.used && seen.saturated <= IN_USE;
        let at_limit = Point {
            n: window.limit as f64,
            ..seen
        };
        if self.slow >= 2 && since > soonest {
            if !seen.at_limit {
                self.tries.patience = (2 * self.tries.patience).min(MOST_PATIENCE);
                self.least = f64::INFINITY;
            }
            self.lower(seen, now);
        } else if hardly && self.too_low {
            self.raise(at_limit, now, 1.5);
        } else if in_use && (self.starting || is_due) || seen.unanswered > 0.1 && is_due {
            self.lower(seen, now);
        } else if hardly && since > 2 * self.tries.pause {
            self.raise(at_limit, now, 1.25);
        }
    }

    /// Watching => Lowered
    fn lower(&mut self, above: Point, now: Time) {
        if above.n < 2.0 {
            return self.raise(above, now, 2.0);
        }
        let mut to = 0.5 * above.n;
        if self.unqueued > 0.0 {
            self.tries.since_below += 1;
            let part = if self.tries.since_below.is_multiple_of(3) {
                0.5
            } else {
                1.0
            };
            to = (part * self.parallelism)
                .min(0.8 * above.n)
                .max(0.25 * above.n);
        }
        let to = to.round().clamp(1.0, (above.n - 1.0).floor());
        self.tries.began = now;
        self.phase = Phase::Lowered {
            above,
            to,
            lies: None,
        };
    }

    /// Watching | Lowered | Raised => Raised
    fn raise(&mut self, below: Point, now: Time, by: f64) {
        self.tries.began = now;
        self.n = below.n.max(1.0) * by + 0.5;
        self.phase = Phase::Raised { below };
    }

    /// Lowered | Raised => Watching
    fn settle(&mut self, below: &Point, above: &Point, now: Time) {
        let lost = 1.0 - below.per_second / above.per_second.max(1e-9);
        let took = now.since(self.tries.began).as_secs_f64();
        let tries = &mut self.tries;
        let pause = seconds(tries.trust * took * lost.clamp(0.1, 1.0) / COST);
        // Of a service that takes long for a hundred calls, a try takes long.
        let longest = LONGEST_PAUSE.max(seconds(12.0 * took)).mul_f64(tries.trust);
        tries.pause = pause.min(longest).clamp(SHORTEST_PAUSE, NEVER_LONGER);
        tries.trust = (2.0 * tries.trust).min(1.0);
        tries.found = self.parallelism;
        tries.ended = now;
        self.phase = Phase::Watching;
        self.little = 0.0;
        self.slow = 0;
    }

    /// Takes this for the parallelism, and `unqueued` for the latency of a call that does not wait,
    /// if that is known.
    fn found(&mut self, parallelism: f64, unqueued: f64) {
        if !parallelism.is_finite() {
            return;
        }
        self.starting = false;
        if !(0.5..2.0).contains(&(parallelism / self.tries.found)) {
            self.tries.trust = LITTLE_TRUST;
        }
        self.parallelism = parallelism.clamp(1.0, self.max as f64);
        self.unqueued = unqueued;
        self.n = self.target(self.parallelism);
    }

    /// Returns what lies between what is known and what was seen now.
    fn smoothed(&self, lies: f64) -> f64 {
        let weight = if self.tries.trust < 0.3 { 0.7 } else { 0.4 };
        self.parallelism * (lies / self.parallelism).powf(weight)
    }

    fn lowered(&mut self, above: Point, to: f64, lay: Option<f64>, seen: Point, now: Time) {
        let (finding, lies) = Point::compare(&seen, &above);
        self.too_low = false;
        self.saturated = above.saturated;
        if let Some(variation) = seen.variation {
            self.variation += 0.7 * (variation - self.variation);
        }
        let known = lay.is_none() && self.unqueued > 0.0;
        match finding {
            // Load left, or nothing ended.
            Finding::Unclear => {
                self.n = self.n.max(to);
                self.settle(&seen, &above, now);
            }
            Finding::Below if known && self.is_as_before(&seen, &above, to, lies) => {
                let unqueued = if to < 0.7 * self.parallelism {
                    seen.latency
                } else {
                    self.unqueued
                };
                self.found(self.smoothed(lies), unqueued);
                self.settle(&seen, &above, now);
            }
            Finding::Below => {
                self.tries.patience = LEAST_PATIENCE;
                self.found(seen.n, if to <= 1.0 { seen.latency } else { 0.0 });
                if to <= 1.0 {
                    self.settle(&seen, &above, now);
                } else {
                    // Lowered => Lowered: calls still wait inside the service.
                    let to = (0.5 * to.min(seen.n)).round().max(1.0);
                    let lies = Some(lies.max(seen.n));
                    self.phase = Phase::Lowered {
                        above: seen,
                        to,
                        lies,
                    };
                }
            }
            Finding::Between => {
                let lies = if known { self.smoothed(lies) } else { lies };
                self.found(lies, seen.latency);
                self.settle(&seen, &above, now);
            }
            Finding::Above => match lay {
                Some(lay) => {
                    self.found(lay.max(above.n), seen.latency);
                    self.settle(&seen, &above, now);
                }
                None if above.at_limit => {
                    self.too_low = true;
                    self.tries.trust = LITTLE_TRUST;
                    self.unqueued = 0.0;
                    self.raise(above, now, if self.starting { 2.0 } else { 1.5 });
                }
                None => {
                    self.n = self.n.max(to);
                    self.settle(&seen, &above, now);
                }
            },
        }
    }

    /// Returns whether what was seen under the lower limit agrees with what is known.
    fn is_as_before(&self, seen: &Point, above: &Point, to: f64, lies: f64) -> bool {
        if to > 0.7 * self.parallelism {
            // As low as the parallelism: then nothing waits there, as before.
            let waits = seen.latency - self.unqueued;
            return above.unanswered < 0.1 && waits < 0.25 * (above.latency - seen.latency);
        }
        // Well below it.
        lies > 0.75 * self.parallelism && lies > to + 0.1 * (above.n - to)
    }

    fn raised(&mut self, below: Point, seen: Point, window: &SampleWindow, now: Time) {
        if window.ends() == 0 {
            // It finds out nothing.
            self.n = below.n.max(1.0);
            return self.settle(&below, &seen, now);
        }
        self.too_low = !window.used;
        if !seen.at_limit && seen.unanswered < 0.1 {
            // High enough: nobody was in want of more.
            return self.settle(&below, &seen, now);
        }
        let (finding, lies) = Point::compare(&below, &seen);
        match finding {
            Finding::Above if seen.at_limit => {
                self.too_low = true;
                self.parallelism = self.parallelism.max(seen.n / 1.25);
                self.raise(seen, now, if self.starting { 2.0 } else { 1.5 });
            }
            Finding::Unclear | Finding::Above => self.settle(&below, &seen, now),
            Finding::Below => {
                let most = seen.n.max(below.n);
                self.found(lies.max(below.n), 0.0);
                self.n = self.n.min(most);
                self.tries.trust = LITTLE_TRUST;
                self.settle(&below, &seen, now);
            }
            Finding::Between => {
                self.found(lies, below.latency);
                self.settle(&below, &seen, now);
            }
        }
    }
}

impl Limit for Adaptive {
    fn initial(&self) -> usize {
        self.initial
    }

    fn close(&self) -> NextWindow {
        // As many as a mean needs: more where calls vary more.
        let ends = match self.starting {
            true => (10.0 * self.variation).clamp(40.0, 100.0),
            false => (20.0 * self.variation).clamp(60.0, 500.0),
        };
        let mut next = NextWindow::after(ends as u64);
        next.latencies = 4.0;
        next.min = Duration::from_millis(10);
        next.max = seconds((8.0 * self.little).clamp(1.0, 30.0));
        if self.usual > 0.0 {
            next.short = seconds((2.0 * self.usual).min(0.25));
            next.long = seconds((8.0 * self.usual).max(0.25));
            next.long_lived = seconds((8.0 * self.usual).max(1.0));
        }
        next
    }

    fn on_window(&mut self, window: &SampleWindow, now: Time) -> usize {
        let seen = Point::of(window);
        if now < self.tries.ended {
            // The clock was set back.
            self.tries.ended = now;
        }
        self.learn_usual(window);
        match self.phase {
            Phase::Watching => self.watch(window, seen, now),
            Phase::Lowered { above, to, lies } => self.lowered(above, to, lies, seen, now),
            Phase::Raised { below } => self.raised(below, seen, window, now),
        }
        self.n = self.n.clamp(self.min as f64, self.max as f64);
        self.limit()
    }

    fn base_latency(&self) -> Option<Duration> {
        (self.unqueued > 0.0).then(|| seconds(self.unqueued))
    }
}

/// Returns so many seconds, or the longest duration for what is none.
fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)
}
