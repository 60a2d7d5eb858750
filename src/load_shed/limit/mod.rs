//! Rules that set how many calls may be in flight.
//!
//! At the end of each [`SampleWindow`] a [`Limit`] returns the limit from then on, and a
//! [`NextWindow`] that says when the next window ends. It sees calls only from outside: how many
//! were in flight for how long, and how they ended. The limit does not change within a window.
//!
//! | rule | takes for overload | use it when |
//! |---|---|---|
//! | [`Fixed`] | nothing | you know what the service can do at once |
//! | [`Adaptive`] | a latency that falls when the limit does | you do not know it; this is the default |
//! | [`Aimd`] | rejections and timeouts by the service | the service says when it is full |
//! | [`Vegas`] | latency above the least seen | service times hardly vary |
//! | [`Gradient2`] | latency above its own long average | you come from Netflix's library |

mod adaptive;
mod aimd;
mod fixed;
mod gradient;
mod vegas;

pub use adaptive::Adaptive;
pub use aimd::Aimd;
pub use fixed::Fixed;
pub use gradient::Gradient2;
pub use vegas::Vegas;

use crate::clock::Time;
use std::{fmt::Debug, time::Duration};

/// A rule that sets how many calls may be in flight.
///
/// ```
/// use buttress::{Time, load_shed::limit::{NextWindow, Limit, SampleWindow}};
///
/// /// Down by one whenever the service said that it was full.
/// #[derive(Debug)]
/// struct Timid(usize);
///
/// impl Limit for Timid {
///     fn initial(&self) -> usize {
///         self.0
///     }
///     fn close(&self) -> NextWindow {
///         NextWindow::after(50)
///     }
///     fn on_window(&mut self, window: &SampleWindow, _now: Time) -> usize {
///         if window.overloaded > 0 {
///             self.0 = (self.0 - 1).max(1);
///         }
///         self.0
///     }
/// }
/// ```
pub trait Limit: Debug + Send + 'static {
    /// Returns the limit to start with, at least 1. Here and in [`on_window`](Self::on_window), 0
    /// is taken for 1.
    fn initial(&self) -> usize;

    /// Returns when the window that begins now is to close. Called once per window, at its start.
    fn close(&self) -> NextWindow;

    /// Learns from a window that has closed, and returns the limit from now on. The next window
    /// begins at once.
    fn on_window(&mut self, window: &SampleWindow, now: Time) -> usize;

    /// Returns whether the limit never changes, so that nothing need be measured and no window ever
    /// closes. By default `false`.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Returns the rule's estimate of how long a call takes that does not wait inside the service,
    /// if it has one. By default `None`.
    fn base_latency(&self) -> Option<Duration> {
        None
    }
}

impl<L: Limit + ?Sized> Limit for Box<L> {
    fn initial(&self) -> usize {
        (**self).initial()
    }
    fn close(&self) -> NextWindow {
        (**self).close()
    }
    fn on_window(&mut self, window: &SampleWindow, now: Time) -> usize {
        (**self).on_window(window, now)
    }
    fn is_fixed(&self) -> bool {
        (**self).is_fixed()
    }
    fn base_latency(&self) -> Option<Duration> {
        (**self).base_latency()
    }
}

/// The terms of a window: when it closes, and which calls count in it.
///
/// Whether the window [`is_over`](Self::is_over) is checked when calls end, and when a call arrives
/// that finds no permit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NextWindow {
    /// How many calls have to end before the window closes. If more were in flight at once, that
    /// many have to end: calls that started under an earlier limit have to be gone before a window
    /// can tell something about the present one.
    pub ends: u64,
    /// The shortest time that the window is open.
    pub min: Duration,
    /// The time after which [`few`](Self::few) ends are enough.
    pub max: Duration,
    /// How many ends are enough once [`max`](Self::max) has passed.
    pub few: u64,
    /// If set, replaces all of the above: the window closes as soon as no more than this many calls
    /// are in flight, or after [`max`](Self::max).
    pub drained: Option<usize>,
    /// The time below which a call that was cancelled or panicked is left out of the window
    /// altogether, its time in flight included: a hedged call, or an impatient caller, says nothing
    /// about the service. One that ran longer is [`lost`](SampleWindow::lost).
    pub short: Duration,
    /// The time above which a call that failed is [`lost`](SampleWindow::lost): a failure that late
    /// is a timeout in disguise. One that failed sooner is a completion.
    pub long: Duration,
}

/// The state of a window that has not closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowProgress {
    /// How long it has been open.
    pub elapsed: Duration,
    /// Calls that ended in the window and count.
    pub ends: u64,
    /// Calls in flight now.
    pub in_flight: usize,
    /// The most calls that were in flight at once.
    pub peak_in_flight: usize,
    /// The limit that holds in the window.
    pub limit: usize,
}

impl NextWindow {
    /// Returns a window that closes after this many ends, but not before 100 ms; after 1 s, 20 ends
    /// are enough.
    pub const fn after(ends: u64) -> Self {
        Self {
            ends,
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
            few: 20,
            drained: None,
            short: UNKNOWN,
            long: UNKNOWN,
        }
    }

    /// Returns whether the window is to be closed now.
    #[inline]
    pub fn is_over(&self, so_far: &WindowProgress) -> bool {
        if let Some(few) = self.drained {
            return so_far.in_flight <= few || so_far.elapsed >= self.max;
        }
        let turnover = so_far.limit.min(so_far.peak_in_flight) as u64;
        (so_far.ends >= self.ends.max(turnover) && so_far.elapsed >= self.min)
            || (so_far.ends >= self.few && so_far.elapsed >= self.max)
    }
}

/// For how long a call must have run to mean something, while nobody knows how long calls take.
const UNKNOWN: Duration = Duration::from_millis(250);

/// What was seen of the calls between two decisions of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleWindow {
    /// When it began.
    pub started: Time,
    /// When it was closed.
    pub ended: Time,
    /// Calls that ended with an answer: successes, ignored ones, and failures that did not take
    /// longer than [`NextWindow::long`].
    pub completions: u64,
    /// Calls that the service refused because it was full.
    pub overloaded: u64,
    /// Calls that ran for long without an answer: cancelled or panicked after
    /// [`NextWindow::short`], failed after [`NextWindow::long`]; and those that a limit of the
    /// operator's cut off, however long they took.
    pub lost: u64,
    /// The number of calls in flight, integrated over the window, in call-seconds; without the
    /// calls that [`NextWindow::short`] leaves out. By Little's law, the mean latency is this
    /// divided by the completions, whichever calls happened to end first.
    pub in_flight_integral: f64,
    /// The sum of the completions' latencies, in seconds.
    pub latency_sum: f64,
    /// The sum of the squares of the completions' latencies, in seconds squared.
    pub latency_squares: f64,
    /// The least latency of a completion, in seconds; infinite if there was no completion.
    pub latency_min: f64,
    /// The most calls that were in flight at once, as far as was seen.
    pub peak_in_flight: usize,
    /// The limit that held in this window.
    pub limit: usize,
    /// The share of the window's time in which no permit was free. It may be measured as the share
    /// of arrivals that found none, which is the same if calls arrive at random.
    pub saturated_share: f64,
    /// Whether a call waited, or was refused, for want of a permit. If none did, the window tells
    /// nothing about a higher limit.
    pub used: bool,
}

impl SampleWindow {
    /// Returns an empty window under this limit that begins at `started`.
    pub const fn starting(started: Time, limit: usize) -> Self {
        Self {
            started,
            ended: started,
            completions: 0,
            overloaded: 0,
            lost: 0,
            in_flight_integral: 0.0,
            latency_sum: 0.0,
            latency_squares: 0.0,
            latency_min: f64::INFINITY,
            peak_in_flight: 0,
            limit,
            saturated_share: 0.0,
            used: false,
        }
    }

    /// Returns how many calls ended in the window and count.
    pub const fn ends(&self) -> u64 {
        self.completions
            .saturating_add(self.overloaded)
            .saturating_add(self.lost)
    }

    /// Returns how long the window was, in seconds.
    pub fn seconds(&self) -> f64 {
        self.ended.since(self.started).as_secs_f64()
    }

    /// Returns how many calls were in flight on average.
    pub fn mean_in_flight(&self) -> f64 {
        match self.seconds() {
            0.0 => 0.0,
            seconds => self.in_flight_integral / seconds,
        }
    }

    /// Returns the mean latency of the completions, in seconds, or `None` if it is not above zero.
    pub fn mean_latency(&self) -> Option<f64> {
        let mean = self.latency_sum / self.completions as f64;
        (mean.is_finite() && mean > 0.0).then_some(mean)
    }

    /// Returns the share of the calls that ended without an answer: lost, or refused by the
    /// service.
    pub fn unanswered(&self) -> f64 {
        match self.ends() {
            0 => 0.0,
            ends => self.overloaded.saturating_add(self.lost) as f64 / ends as f64,
        }
    }
}
