//! One look for the latency of a call that does not wait: less than half the limit for some dozens
//! of calls.

use super::{HEADROOM, NextWindow, SampleWindow, is_latency};
use crate::clock::Time;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Search {
    began: Time,
    /// The limit to go back to at most.
    cap: f64,
    /// The limit and latency compared with.
    n0: f64,
    r0: f64,
    /// The limit tried.
    n1: f64,
    /// The least limit allowed.
    min: f64,
    /// Whether the calls from before have ended, so that what is seen belongs to `n1`.
    drained: bool,
    /// Whether the first try already showed a queue.
    went_on: bool,
}

pub(super) enum Step {
    GoOn,
    Found(SearchStep),
}

pub(super) enum SearchStep {
    /// This is the base latency, and the limit to go on with. Flat if the lower limit changed
    /// nothing: there was no queue.
    Base { base: f64, n: f64, flat: bool },
    /// There were too few calls meanwhile to tell.
    LoadLeft {
        r1: f64,
        n1: f64,
        r0: f64,
        n: f64,
        lost: bool,
    },
    /// Calls are lost with one in flight.
    Hopeless,
}

impl Search {
    pub(super) fn new(n0: f64, r0: f64, cap: f64, min: f64, began: Time) -> Self {
        Self {
            began,
            cap,
            n0,
            r0,
            n1: lower(n0, min),
            min,
            drained: false,
            went_on: false,
        }
    }

    pub(super) fn began(&self) -> Time {
        self.began
    }

    pub(super) fn limit(&self) -> usize {
        self.n1 as usize
    }

    pub(super) fn close(&self, close: &mut NextWindow, cv2: f64) {
        if self.drained {
            close.ends = (cv2 / 0.005).clamp(100.0, 1000.0) as u64;
            close.min = Duration::ZERO;
            close.max = Duration::from_secs(2);
        } else {
            close.drained = Some(self.limit());
        }
    }

    pub(super) fn on_window(&mut self, window: &SampleWindow, r1: f64, lost: bool) -> Step {
        if !self.drained {
            // Draining => measuring
            self.drained = true;
            return Step::GoOn;
        }
        let (n0, n1, r0) = (self.n0, self.n1, self.r0);
        let lost = lost || !is_latency(r1);
        if window.saturated_share < 0.5 {
            let n = self.cap;
            return Step::Found(SearchStep::LoadLeft {
                r1,
                n1,
                r0,
                n,
                lost,
            });
        }
        // 1 if latency is in proportion to the limit, which is what a queue does; 0 if it is flat.
        let e = if n1 < n0 {
            (r1 / r0).ln() / (n1 / n0).ln()
        } else {
            0.0
        };
        if (e > 0.8 || lost) && n1 > self.min {
            // Measuring => draining, from here
            *self = Self {
                cap: HEADROOM * n1 + n1.sqrt(),
                n0: n1,
                r0: if is_latency(r1) { r1 } else { r0 },
                n1: lower(n1, self.min),
                drained: false,
                went_on: true,
                ..*self
            };
            return Step::GoOn;
        }
        if lost {
            return Step::Found(SearchStep::Hopeless);
        }
        // What was in flight and not in the queue.
        let x = n0 * r1 / r0;
        Step::Found(SearchStep::Base {
            base: r1,
            n: self.cap.min(n0.max(HEADROOM * x + x.sqrt())),
            flat: e < 0.3 && n1 < n0 && !self.went_on,
        })
    }
}

fn lower(n: f64, min: f64) -> f64 {
    (0.45 * n).round().max(min)
}
