//! The default: latency by Little's law, checked by searches.

mod config;
mod search;

use super::{Limit, NextWindow, SampleWindow};
use crate::clock::Time;
use search::{Search, SearchStep, Step};
use std::time::Duration;

/// A limit that finds out how many calls the service works on at once, and allows that number, a
/// quarter of it more, and its square root.
///
/// Below that number, latency does not depend on the limit. Above it, calls wait inside the
/// service, and their latency grows in proportion. The rule takes the mean latency of a window from
/// Little's law (calls in flight divided by completions per second), so that calls which end early
/// or late do not bias it. It compares this with a base latency, that of a call that does not wait.
///
/// A base goes stale when the service gets slower, and may be wrong if the service was never seen
/// without a queue. So every few seconds under load the rule searches for it anew: it lowers the
/// limit to less than half for some dozens of calls. If latency falls in proportion, there was a
/// queue inside the service, and the search goes on from there.
///
/// The limit grows only while calls wait for a permit, at first by doubling, and halves when calls
/// are lost to timeouts.
#[doc(alias = "adaptive_concurrency")]
#[derive(Clone, Debug)]
pub struct Adaptive {
    initial: usize,
    min: usize,
    max: usize,
    /// The limit, before it is rounded down.
    n: f64,
    /// The latency of a call that does not wait, in seconds; 0 while unknown.
    base: f64,
    /// The variance of latencies by the square of their mean: how many calls a mean needs.
    cv2: f64,
    /// Latency by limit, averaged over windows.
    per_permit: f64,
    starting: bool,
    /// Whether calls have waited for a permit before.
    bound: bool,
    /// Completions behind `base`, while starting.
    seen: f64,
    /// Windows in a row in which latency was out of proportion.
    suspicions: u32,
    search: Option<Search>,
    last_search: Time,
    last_took: Duration,
}

/// The fixed point is this times the parallelism, plus a square root.
const HEADROOM: f64 = 1.25;
/// The least time between searches: they cost half a percent of the work, and without them the
/// limit drifts.
const EVERY: Duration = Duration::from_secs(5);
const MAX_EVERY: Duration = Duration::from_secs(20);
/// The least time between searches that were suspected to be needed.
const SOONEST: Duration = Duration::from_millis(500);

const MOST_AT_FIRST: usize = 20;

impl Adaptive {
    fn limit(&self) -> usize {
        // A float that is too large or not a number becomes the nearest bound.
        (self.n as usize).clamp(self.min, self.max)
    }

    fn ends(&self) -> u64 {
        (self.cv2 / 0.01).clamp(50.0, 500.0) as u64
    }

    /// Returns whether so many calls are lost, or refused by the service, that no latency can be
    /// told from those that are left.
    fn lost(window: &SampleWindow) -> bool {
        window.unanswered() > 0.1
    }

    /// Returns the latency by Little's law, in seconds.
    fn latency(window: &SampleWindow) -> f64 {
        window.in_flight_integral / window.completions.max(1) as f64
    }

    fn learn_variation(&mut self, window: &SampleWindow) {
        let Some(mean) = window.mean_latency() else {
            return;
        };
        let mean_square = window.latency_squares / window.completions as f64;
        let cv2 = (mean_square / (mean * mean) - 1.0).clamp(0.0, 100.0);
        self.cv2 += 0.2 * (cv2 - self.cv2);
    }

    fn steady(&mut self, window: &SampleWindow, now: Time) {
        let r = Self::latency(window);
        let (sat, lost) = (window.saturated_share, Self::lost(window));
        let n0 = window.limit as f64;
        let per_permit = r / n0;
        self.per_permit = match self.per_permit {
            0.0 => per_permit,
            before => before + 0.3 * (per_permit - before),
        };
        // A queue out of proportion even to a limit that is as high as it may be.
        let rho = HEADROOM / (1.0 - 1.0 / n0.sqrt()).max(0.4);
        self.suspicions = match r > 1.6 * rho * self.base && sat > 0.8 {
            true => self.suspicions + 1,
            false => 0,
        };
        if lost || (r > 8.0 * self.base && sat < 0.8) {
            // Terrible although there were permits to spare: timeouts give them back while the
            // service works on.
            self.n = (self.n.min(window.peak_in_flight as f64) / 2.0).max(1.0);
        } else if window.used {
            let g = (HEADROOM * self.base / r).clamp(0.5, 1.25);
            self.n = 0.5 * self.n + 0.5 * (g * self.n + self.n.sqrt());
        } else if window.mean_in_flight() < self.n / 2.0 {
            self.base += 0.3 * (r - self.base);
        }
        let since = now.since(self.last_search);
        let pause = EVERY.max(MAX_EVERY.min(self.last_took.saturating_mul(40)));
        if self.suspicions >= 2 && since >= SOONEST {
            self.look(n0, r, now);
        } else if sat > 0.5 && since > pause {
            self.look(n0, n0 * self.per_permit, now);
        }
    }

    fn start_up(&mut self, window: &SampleWindow, now: Time) {
        let r = Self::latency(window);
        let (sat, n0) = (window.saturated_share, window.limit as f64);
        if Self::lost(window) {
            self.n = (self.n.min(window.peak_in_flight as f64) / 2.0).max(1.0);
            return;
        }
        let high_start = window.used && !self.bound && self.initial >= MOST_AT_FIRST;
        self.bound |= window.used;
        let mut slow = self.base > 0.0 && r > 1.5 * self.base;
        if sat >= 0.8 && self.suspicions > 0 && self.seen < window.completions as f64 {
            // Of the two, it is the base that comes from fewer calls.
            slow = false;
        }
        if !slow && (window.used || window.mean_in_flight() < self.n / 2.0) {
            // All windows so far, until they are many. The least of them would be far too low: few
            // calls make a window here.
            self.seen += window.completions as f64;
            self.base += (r - self.base) * (window.completions as f64 / self.seen).max(0.2);
        }
        if !window.used {
            return;
        }
        if sat >= 0.8 && (high_start || (slow && self.suspicions > 0)) {
            self.look(n0, r, now);
        } else if slow {
            // To be looked at again in a longer window. Going on doubling would stay ahead of the
            // queue that may be filling in the service.
            self.suspicions = 1;
        } else {
            self.suspicions = 0;
            self.n *= 2.0;
        }
    }

    fn look(&mut self, n0: f64, r0: f64, now: Time) {
        self.suspicions = 0;
        self.n = self.n.clamp(1.0, self.max as f64);
        self.search = Some(Search::new(n0, r0, self.n, self.min as f64, now));
    }

    fn found(&mut self, answer: SearchStep, began: Time, now: Time) {
        self.search = None;
        self.last_search = now;
        // The next one is to be a forty times longer search away; but the first one, which compares
        // with less, is checked soon.
        self.last_took = match self.starting {
            true => Duration::ZERO,
            false => now.since(began),
        };
        self.per_permit = 0.0;
        match answer {
            // Starting => Steady, unless there was no queue at all
            SearchStep::Base { base, n, flat } => {
                (self.base, self.n) = (base, n);
                self.starting &= flat;
            }
            SearchStep::LoadLeft {
                r1,
                n1,
                r0,
                n,
                lost,
            } => {
                if !lost {
                    self.base += match self.base {
                        0.0 => r1,
                        base => 0.3 * (r1 - base),
                    };
                }
                self.n = if lost || r0 > 2.0 * self.base { n1 } else { n };
            }
            // Steady => Starting: even one call at a time is too much, so nothing is known
            SearchStep::Hopeless => {
                (self.n, self.base, self.seen) = (1.0, 0.0, 0.0);
                self.starting = true;
                self.bound = false;
            }
        }
    }
}

impl Limit for Adaptive {
    fn initial(&self) -> usize {
        self.initial
    }

    fn close(&self) -> NextWindow {
        let mut close = NextWindow::after(self.ends());
        if let Some(search) = &self.search {
            search.close(&mut close, self.cv2);
        } else if self.starting {
            close.ends = close.ends.min(match self.suspicions {
                0 => 30,
                _ => 100,
            });
            close.min = Duration::from_millis(10);
        }
        if self.base > 0.0 {
            close.short = seconds(2.0 * self.base);
            close.long = seconds(8.0 * self.base);
        }
        close
    }

    fn on_window(&mut self, window: &SampleWindow, now: Time) -> usize {
        if let Some(search) = &mut self.search {
            let began = search.began();
            match search.on_window(window, Self::latency(window), Self::lost(window)) {
                Step::GoOn => {}
                Step::Found(answer) => self.found(answer, began, now),
            }
        } else {
            if window.completions > 1 {
                self.learn_variation(window);
            }
            if window.ends() == 0 || !is_latency(Self::latency(window)) {
                // Nothing ended, or nobody knows when: nothing to learn from.
            } else if self.starting {
                self.start_up(window, now);
            } else {
                self.steady(window, now);
            }
            self.n = self.n.clamp(self.min as f64, self.max as f64);
        }
        match &self.search {
            Some(search) => search.limit().clamp(self.min, self.max),
            None => self.limit(),
        }
    }

    fn base_latency(&self) -> Option<Duration> {
        (self.base > 0.0).then(|| seconds(self.base))
    }
}

/// Returns whether it can be divided by, and compared with.
fn is_latency(r: f64) -> bool {
    r.is_finite() && r > 0.0
}

/// Returns so many seconds, or the longest duration for what is none.
fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)
}
