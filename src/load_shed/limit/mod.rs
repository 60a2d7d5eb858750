//! How many calls may be in flight: the rules, pure.
//!
//! A [`Limit`] is asked once per [`SampleWindow`] what the limit shall be from now on, and says
//! with a [`NextWindow`] when it wants to be asked again. It sees calls only from outside: how many
//! were in flight for how long, and how they ended. Nothing changes within a window.
//!
//! | rule | takes for overload | use it when |
//! |---|---|---|
//! | [`Fixed`] | nothing | you know what the service can do at once |
//! | [`Adaptive`] | a latency that falls when the limit does | you do not; the default |
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

/// A rule for the number of calls in flight.
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
    /// Returns the limit to start with. At least 1; a 0 is taken for 1, here and in the other
    /// answers.
    fn initial(&self) -> usize;

    /// Returns when the window that begins now is to close. Asked once per window, at its start.
    fn close(&self) -> NextWindow;

    /// Learns from a window that has closed, and returns the limit from now on, which is also when
    /// the next window begins.
    fn on_window(&mut self, window: &SampleWindow, now: Time) -> usize;

    /// Returns whether the limit never changes, so that nothing has to be measured and no window is
    /// ever closed. By default `false`.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Returns what the rule takes for the latency of a call that does not wait inside the service,
    /// if it has such an idea. By default `None`.
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

/// When a window closes, and which calls count in it.
///
/// Whoever carries the rule looks at every end of a call, and at every arrival that finds no
/// permit, whether the window [`is_over`](Self::is_over).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NextWindow {
    /// After this many ends, though never before as many as were in flight at once: calls that
    /// started under an earlier limit have to be gone before a window can say something about this
    /// one.
    pub ends: u64,
    /// Not before this.
    pub min: Duration,
    /// After this with only [`few`](Self::few) ends.
    pub max: Duration,
    /// The ends that are enough at [`max`](Self::max).
    pub few: u64,
    /// Instead of all that: as soon as no more than this many calls are in flight, or at
    /// [`max`](Self::max) if they stay.
    pub drained: Option<usize>,
    /// A call that was cancelled or panicked sooner than this is left out of the window altogether,
    /// its time in flight included: the hedges and the impatient say nothing. Later, it is
    /// [`lost`](SampleWindow::lost).
    pub short: Duration,
    /// A call that failed later than this is [`lost`](SampleWindow::lost), because what ends so
    /// late in a failure is a timeout in disguise. Sooner, it is a completion.
    pub long: Duration,
}

/// The state of a window that has not closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowProgress {
    /// How long it has been open.
    pub elapsed: Duration,
    /// Calls that ended in it and count.
    pub ends: u64,
    /// Calls in flight now.
    pub in_flight: usize,
    /// The most calls in flight at once.
    pub peak_in_flight: usize,
    /// The limit.
    pub limit: usize,
}

impl NextWindow {
    /// Returns a window of this many ends, no shorter than 100 ms, and at 1 s content with 20.
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

/// What was seen of the calls between two decisions.
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
    /// [`NextWindow::short`], failed after [`NextWindow::long`].
    pub lost: u64,
    /// The integral of the calls in flight over the window, in call-seconds, without those that
    /// [`NextWindow::short`] leaves out. By Little's law their mean latency is this by the
    /// completions, whichever calls happened to end first.
    pub in_flight_integral: f64,
    /// The sum of the completions' latencies, in seconds.
    pub latency_sum: f64,
    /// The sum of their squares.
    pub latency_squares: f64,
    /// The least of them, in seconds; infinite if there were none.
    pub latency_min: f64,
    /// The most calls in flight at once, as far as was seen.
    pub peak_in_flight: usize,
    /// The limit that held in this window.
    pub limit: usize,
    /// The share of the window's time in which no permit was free; or, which is the same if they
    /// come at random, the share of arrivals that found none.
    pub saturated_share: f64,
    /// Whether a call waited, or was refused, for want of a permit. A limit that nobody ran into
    /// has taught nothing about a higher one.
    pub used: bool,
}

impl SampleWindow {
    /// Returns an empty window under this limit, from now on.
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

    /// Returns the mean latency of the completions themselves, in seconds, if there is one above
    /// zero.
    pub fn mean_latency(&self) -> Option<f64> {
        let mean = self.latency_sum / self.completions as f64;
        (mean.is_finite() && mean > 0.0).then_some(mean)
    }

    /// Returns the part of the calls that ended without an answer: lost, or refused by the service.
    pub fn unanswered(&self) -> f64 {
        match self.ends() {
            0 => 0.0,
            ends => self.overloaded.saturating_add(self.lost) as f64 / ends as f64,
        }
    }
}
