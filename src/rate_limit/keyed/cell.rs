//! What is kept of one key: a few words, in one of four forms.

use super::super::{Algorithm, forecast::Supply, gcra::Pace, status::Level};
use super::{counters::Counters, times::Times};

/// How the cells of a limiter are laid out. The first word of each is the key's hash.
#[derive(Clone, Copy, Debug)]
pub(in crate::rate_limit) enum Cells {
    /// The exact log, for quotas up to 16.
    Times(Times),
    /// Sub-window counters.
    Counters(Counters),
    /// One moment.
    Pace(Pace, u32),
}

/// The largest quota that is kept as an exact log: 18 words, as many as the counters take.
const EXACT_UP_TO: u32 = 16;

impl Cells {
    pub(in crate::rate_limit) fn new(algorithm: Algorithm, quota: u32, window: u64) -> Self {
        match algorithm {
            Algorithm::SlidingWindow if quota <= EXACT_UP_TO => Self::Times(Times {
                quota: quota as usize,
                window,
            }),
            Algorithm::SlidingWindow => Self::Counters(Counters::new(quota, window)),
            Algorithm::Gcra { burst } => Self::Pace(Pace::new(quota, window, burst), quota),
        }
    }

    /// Words per cell, the hash included.
    pub(super) fn words(&self) -> usize {
        1 + match self {
            Self::Times(times) => times.words(),
            Self::Counters(counters) => counters.words(),
            Self::Pace(..) => 1,
        }
    }

    /// Whether this cost can be admitted at all.
    pub(super) fn fits(&self, cost: u32) -> bool {
        match self {
            Self::Times(times) => cost as usize <= times.quota,
            Self::Counters(counters) => u64::from(cost) <= counters.quota,
            Self::Pace(pace, _) => cost <= pace.burst,
        }
    }

    #[inline]
    pub(super) fn take(&self, cell: &mut [u64], cost: u32, now: u64) -> Result<u64, Option<u64>> {
        match self {
            Self::Times(times) => times.take(cell, cost, now),
            Self::Counters(counters) => counters.take(cell, cost, now),
            Self::Pace(pace, _) => {
                cell[0] = pace.take(cell[0], cost, now)?;
                Ok(cell[0])
            }
        }
    }

    pub(super) fn give_back(&self, cell: &mut [u64], at: u64, cost: u32) {
        match self {
            Self::Times(times) => times.give_back(cell, at, cost),
            Self::Counters(counters) => counters.give_back(cell, at, cost),
            Self::Pace(pace, _) => {
                if let Some(tat) = pace.give_back(cell[0], at, cost) {
                    cell[0] = tat;
                }
            }
        }
    }

    /// Whether forgetting the cell would change nothing.
    pub(super) fn idle(&self, cell: &[u64], now: u64) -> bool {
        match self {
            Self::Times(times) => times.idle(cell, now),
            Self::Counters(counters) => counters.idle(cell, now),
            Self::Pace(..) => cell[0] <= now,
        }
    }

    pub(super) fn level(&self, cell: &mut [u64], now: u64) -> Level {
        let window = match self {
            Self::Pace(pace, quota) => {
                let (left, reset) = pace.left(cell[0], now);
                let (quota, left) = ((*quota).into(), left.into());
                return Level { quota, left, reset };
            }
            Self::Times(times) => times.window(cell, now),
            Self::Counters(counters) => counters.window(cell, now),
        };
        let next = window.leaving.first();
        Level {
            quota: window.quota,
            left: window.quota.saturating_sub(window.used),
            reset: next.map_or(0, |(at, _)| at.saturating_sub(now)),
        }
    }

    pub(super) fn supply(&self, cell: &mut [u64], now: u64) -> Supply {
        match self {
            Self::Times(times) => Supply::Window(times.window(cell, now)),
            Self::Counters(counters) => Supply::Window(counters.window(cell, now)),
            Self::Pace(pace, _) => Supply::Pace {
                pace: *pace,
                tat: cell[0],
                now,
            },
        }
    }

    pub(super) fn quota(&self) -> u32 {
        match self {
            Self::Times(times) => times.quota as u32,
            Self::Counters(counters) => counters.quota as u32,
            Self::Pace(_, quota) => *quota,
        }
    }
}
