//! Which ended calls a breaker takes its rates over.

use super::*;

impl Model {
    /// Calls, failures and slow calls in the window.
    pub(super) fn counts(&self, now: Time) -> (u64, u64, u64) {
        let in_window: Vec<_> = match self.config.window {
            Err(calls) => self.ended.iter().rev().take(calls).collect(),
            Ok(window) => {
                let tenth = window.as_nanos() as u64 / 10;
                let recent = |e: &&Ended| now.as_nanos() / tenth - e.at.as_nanos() / tenth < 10;
                self.ended.iter().filter(recent).collect()
            }
        };
        let count = |of: fn(&Ended) -> bool| in_window.iter().filter(|e| of(e)).count() as u64;
        (count(|_| true), count(|e| e.failed), count(|e| e.slow))
    }

    /// Those over which rates are taken: of the window or, if these are too few, of as many windows
    /// as it takes, ten at most. A call keeps its tenth until another one needs the bucket; from
    /// then on it is known to the window.
    pub(super) fn rated(&self, now: Time) -> (u64, u64, u64) {
        let (counts, minimum) = (self.counts(now), u64::from(self.config.minimum));
        let Ok(window) = self.config.window else {
            return counts;
        };
        if counts.0 >= minimum {
            return counts;
        }
        let tenth = window.as_nanos() as u64 / 10;
        let this = now.as_nanos() / tenth;
        let mut windows = [(0, 0, 0); 10];
        for (i, call) in self.ended.iter().enumerate() {
            let of = |call: &Ended| call.at.as_nanos() / tenth;
            let n = of(call);
            let same = |later: &Ended| of(later) > n && of(later) % 10 == n % 10;
            let index = |has_left: bool| match has_left {
                true => this / 10 - n / 10,
                false => (this - n) / 10,
            };
            let later = &self.ended[i + 1..];
            // Whoever is first in an era of 2^20 tenths forgets when that was which has left the
            // window by then, unless it is known to the window already.
            let era = later.iter().position(|later| of(later) >> 20 > n >> 20);
            let era = era.filter(|first| of(&later[*first]) - n >= 10);
            let forgotten = |left: Option<usize>| {
                era.is_some_and(|first| left.is_none_or(|left| left >= first))
            };
            let left = later.iter().position(same);
            match windows.get_mut(index(left.is_some()) as usize) {
                Some(window) if !forgotten(left) => {
                    window.0 += 1;
                    window.1 += u64::from(call.failed);
                }
                _ => {}
            }
            let left = later.iter().position(|later| later.slow && same(later));
            match windows.get_mut(index(left.is_some()) as usize) {
                Some(window) if !forgotten(left) => window.2 += u64::from(call.slow),
                _ => {}
            }
        }
        let mut sum = (0, 0, 0);
        for (calls, failures, slow) in windows {
            if sum.0 < minimum {
                sum = (sum.0 + calls, sum.1 + failures, sum.2 + slow);
            }
        }
        sum
    }
}
