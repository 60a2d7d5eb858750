//! Rules that set how many calls may be in flight.
//!
//! At the end of each [`SampleWindow`] a [`Limit`] returns the limit from then on, and a
//! [`NextWindow`] that says when the next window ends. It sees calls only from outside: how many
//! were in flight for how long, and how they ended. The limit does not change within a window, and
//! stands beside [long-lived calls](super#long-lived-calls).
//!
//! | rule | takes for overload | use it when |
//! |---|---|---|
//! | [`Fixed`] | nothing | you know what the service can do at once |
//! | [`Adaptive`] | a latency that a lower limit would make shorter | you do not know it; this is
//! the default |
//! | [`Aimd`] | rejections and timeouts by the service | the service says when it is full |
//! | [`Vegas`] | latency above the least seen | service times hardly vary |
//! | [`Gradient2`] | latency above its own long average | you come from Netflix's library |
//!
//! `cargo bench --bench overload -- --grid` puts each of them in front of 30 kinds of service, at
//! five loads, and says where it holds: see its picture in the README. Only [`Adaptive`] is held to
//! that by the crate's tests.

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

    /// Learns from a window that has closed, and returns the limit from now on.
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
/// that finds no permit. If the limit was lowered, the window begins as soon as no more calls are
/// in flight than it allows, or after [`max`](Self::max).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NextWindow {
    /// How many calls that began in the window and took the last permit have to end in it before it
    /// closes; if fewer than 20 of those that end took the last one, twice as many of any. Calls
    /// from before can tell nothing about the limit of this window.
    pub ends: u64,
    /// How many times the mean latency it has to last at least. In a shorter one hardly any but
    /// quick calls could both begin and end.
    pub latencies: f64,
    /// The shortest time that it lasts.
    pub min: Duration,
    /// The time after which it closes whatever has ended in it: at the next call that ends, or
    /// finds no permit.
    pub max: Duration,
    /// The time below which a call that was cancelled or panicked is left out of the window
    /// altogether, its time in flight included: a hedged call, or an impatient caller, says nothing
    /// about the service. One that ran longer is [`lost`](SampleWindow::lost).
    pub short: Duration,
    /// The time above which a call that failed is [`lost`](SampleWindow::lost): a failure that late
    /// is a timeout in disguise. One that failed sooner is one of the
    /// [`failures`](SampleWindow::failures).
    pub long: Duration,
    /// The age from which on a call that has not ended is [long-lived](super#long-lived-calls), and
    /// the limit stands beside it. It may be a quarter more until that is noticed.
    pub long_lived: Duration,
}

/// The state of a window that has not closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowProgress {
    /// How long it has been open.
    pub elapsed: Duration,
    /// Calls that began and ended in it.
    pub within: u64,
    /// Of these, the ones that took the last permit, as far as was seen.
    pub at_limit: u64,
    /// Calls that were [lost](SampleWindow::lost) in it.
    pub lost: u64,
    /// The mean latency, by Little's law, in seconds.
    pub latency: f64,
}

impl NextWindow {
    /// Returns a window that closes after this many ends, but not before 100 ms and two latencies
    /// have passed; and after 1 s, or ten calls lost and fewer others, in any case.
    pub const fn after(ends: u64) -> Self {
        Self {
            ends,
            latencies: 2.0,
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
            short: UNKNOWN,
            long: UNKNOWN,
            long_lived: Duration::from_secs(1),
        }
    }

    /// Returns whether the window is to be closed now.
    #[inline]
    pub fn is_over(&self, so_far: &WindowProgress) -> bool {
        // Where callers leave, there is nothing to wait for.
        let hopeless = so_far.lost >= HOPELESS && so_far.lost > so_far.within;
        if so_far.elapsed >= self.max || hopeless && so_far.elapsed >= self.min {
            return true;
        }
        // The ones at the limit tell the most. Where hardly any are, twice as many others do.
        let ends = match so_far.at_limit {
            ENOUGH.. => so_far.at_limit,
            _ => so_far.within / 2,
        };
        let elapsed = so_far.elapsed.as_secs_f64();
        ends >= self.ends
            && so_far.elapsed >= self.min
            && elapsed >= self.latencies * so_far.latency
    }
}

/// So many calls that are lost, and hardly any others, tell enough.
const HOPELESS: u64 = 10;
/// So many calls have a mean.
pub(super) const ENOUGH: u64 = 20;

/// For how long a call must have run to mean something, while nobody knows how long calls take.
const UNKNOWN: Duration = Duration::from_millis(250);

/// What was seen of the calls between two decisions of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleWindow {
    /// When it began.
    pub started: Time,
    /// When it was closed.
    pub ended: Time,
    /// Calls that ended with an answer: successes and ignored ones.
    pub completions: u64,
    /// Calls that failed, and did not take longer than [`NextWindow::long`]. They are in no
    /// latency: a failure that comes fast is no proof of capacity.
    pub failures: u64,
    /// Calls that the service refused because it was full.
    pub overloaded: u64,
    /// Calls that ran for long without an answer: cancelled or panicked after
    /// [`NextWindow::short`], failed after [`NextWindow::long`]; and those that a limit of the
    /// operator's cut off, however long they took.
    pub lost: u64,
    /// Calls that were answered after they had become [long-lived](super#long-lived-calls), and are
    /// in none of the other numbers. If they are many, long-lived is said too soon.
    pub outlived: u64,
    /// The sum of their latencies, in seconds.
    pub outlived_sum: f64,
    /// The number of calls in flight, integrated over the window, in call-seconds; without the
    /// calls that [`NextWindow::short`] leaves out, and of long-lived ones. By Little's law, the
    /// mean latency is this divided by the ends, whichever calls happened to end first.
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
    /// Calls in flight at the end of the window that are [long-lived](super#long-lived-calls), and
    /// in none of the other numbers.
    pub long_lived: usize,
    /// The latencies of the completions that also began in the window.
    pub within: Latencies,
    /// The latencies of those among them that took the last permit, as far as was seen: they all
    /// found the same number of calls before them.
    pub at_limit: Latencies,
    /// Whether a call waited, or was refused, for want of a permit. If none did, the window tells
    /// nothing about a higher limit.
    pub used: bool,
}

/// The latencies of some calls, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Latencies {
    /// Of how many calls.
    pub count: u64,
    /// Their mean; 0 if there are none.
    pub mean: f64,
    /// The mean without the slowest tenth; 0 if there are none. Waiting adds the same to all calls,
    /// and a few slow ones would hide it in the plain mean.
    pub trimmed: f64,
    /// The variance by the square of the mean: 0 if all are the same, 1 for an exponential
    /// distribution.
    pub variation: f64,
}

impl Latencies {
    const NONE: Self = Self {
        count: 0,
        mean: 0.0,
        trimmed: 0.0,
        variation: 0.0,
    };
}

impl SampleWindow {
    /// Returns an empty window under this limit that begins at `started`.
    pub const fn starting(started: Time, limit: usize) -> Self {
        Self {
            started,
            ended: started,
            completions: 0,
            failures: 0,
            overloaded: 0,
            lost: 0,
            outlived: 0,
            outlived_sum: 0.0,
            in_flight_integral: 0.0,
            latency_sum: 0.0,
            latency_squares: 0.0,
            latency_min: f64::INFINITY,
            peak_in_flight: 0,
            limit,
            saturated_share: 0.0,
            long_lived: 0,
            within: Latencies::NONE,
            at_limit: Latencies::NONE,
            used: false,
        }
    }

    /// Returns how many calls ended in the window and count.
    pub const fn ends(&self) -> u64 {
        self.completions
            .saturating_add(self.failures)
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

    /// Returns the mean latency by Little's law, in seconds: how many calls were in flight by how
    /// many ended per second. 0 if none ended.
    pub fn little(&self) -> f64 {
        match self.ends() {
            0 => 0.0,
            ends => self.in_flight_integral / ends as f64,
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
