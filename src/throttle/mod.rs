//! Client-side throttling: does not send what the service would refuse anyway.
//!
//! When a service says that it is overloaded, the throttle decides at random for each call whether
//! it is still worth sending. Each refusal costs the service work, and the client a round trip: a
//! client that holds back calls saves both. This is the adaptive throttling of "Client-Side
//! Throttling" in Google's SRE book, chapter 21. Counting the calls of the last
//! [window](ThrottleBuilder::window), those held back included, the throttle holds back the share
//!
//! ```text
//! (calls - multiplier * accepted - minimum_calls) / (calls + 1)
//! ```
//!
//! but never more than [`max_rejection`](ThrottleBuilder::max_rejection), so that enough get
//! through to see when the service has room again.
//!
//! ```
//! use buttress::{Error, Throttle};
//! use std::{io, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let throttle = Throttle::builder("search").window(Duration::from_secs(1)).build()?;
//! match throttle.run(async || Ok::<_, Error<io::Error>>("found")).await {
//!     Ok(answer) => println!("{answer}"),
//!     Err(Error::Rejected(rejected)) => println!("not sent: {rejected}"),
//!     Err(Error::Service(error)) => println!("failed: {error}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What counts
//! Only [`Overloaded`](crate::Outcome::Overloaded) means that the service refused a call, so the
//! classifier has to tell it from a failure. `.layer().http()` and `.layer().grpc()` do so, and
//! rejections by layers of this crate further in are recognised. A
//! [`Failure`](crate::Outcome::Failure) counts as accepted: the service took the call and did
//! badly, and fewer calls do not make a broken service well. That is a matter for a circuit
//! breaker. A call is not counted while it runs, nor at all if it ended without an answer: if it
//! was cancelled, cut off by a limit, refused by another policy or broken off by its own request,
//! or if it panicked.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`window`](ThrottleBuilder::window) | 1 s | all calls are sent again within seconds of the end of an outage |
//! | [`multiplier`](ThrottleBuilder::multiplier) | 2 | at most one refusal for each accepted call, and free capacity is noticed |
//! | [`minimum_calls`](ThrottleBuilder::minimum_calls) | 2 | one refusal does not hold back a client with few calls |
//! | [`max_rejection`](ThrottleBuilder::max_rejection) | 0.8 | a fifth of the calls find out when there is room again |
//! | [`seed`](ThrottleBuilder::seed) | random | |
//!
//! # Metrics
//!
//! What a registered throttle publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_throttle_probability` | gauge | the share of calls that is held back now |
//! | `buttress_throttle_overloaded_total` | counter | calls that the service refused |
//! | `buttress_rejected_total` (`kind` is `throttle`) | counter | calls held back |
//!
//! # Trade-offs
//! - Each client is throttled by the share of its own calls that is refused, so throttling is fair
//!   among clients only if the service refuses fairly.
//! - Put it inside a retry, so that each attempt is a call. An open circuit breaker further in
//!   teaches it nothing: the service has not refused the call.
//! - The window is short on purpose: after an outage it takes up to two windows until all calls are
//!   sent again, which would be minutes with the book's window of two minutes.

mod config;
mod counts;

pub use config::ThrottleBuilder;

use crate::{
    classify::Outcome,
    clock::{Now, Time},
    error::{Kind, Name, Rejected},
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never},
    rng::Dice,
};
use config::ThrottleTerms;
use counts::ThrottleCounts;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A client-side throttle, which holds back calls to a service that has been refusing them.
///
/// It is a handle: clones, and all layers made from them, share one state. The [module](self)
/// describes how it decides, with an example and the defaults.
#[doc(alias = "adaptive_throttling")]
#[doc(alias = "client_side_throttling")]
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Core>);

#[derive(Debug)]
struct Core {
    name: &'static str,
    terms: ThrottleTerms,
    counts: ThrottleCounts,
    /// Until when the probability may be above 0, as a time; 0 while nothing was refused lately.
    /// Written at most once in a tenth of the window.
    pressure: AtomicU64,
    /// The probability of this hundredth of a window: `number of the hundredth:32 | f32:32`.
    cached: AtomicU64,
    dice: Dice,
}

const NOTHING: u64 = u64::MAX;

impl Throttle {
    /// Creates a throttle with the [defaults](self#defaults).
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).make()
    }

    /// Returns the settings of a throttle, all of them at their [defaults](self#defaults).
    pub fn builder(name: impl Into<Name>) -> ThrottleBuilder {
        ThrottleBuilder::new(name.into())
    }

    /// Returns the name that rejections by this throttle carry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns a tower layer, which still has to be told what a refusal looks like: by `.http()`,
    /// `.grpc()` or [`GuardLayer::classify`]. All layers of this handle and of its clones share one
    /// state.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }

    guard_runs! {
        /// Runs `op`, unless the throttle holds it back.
        ///
        /// Without a classifier, only a refusal by a load shed inside `op` counts as overload; any
        /// other error is a failure. So where the service itself says that it is overloaded, say
        /// with [`classify`](Self::classify) which of its errors do.
        run
    }
    guard_runs!(classify);

    /// Returns what the throttle has done so far, and what it would do now.
    pub fn snapshot(&self) -> Snapshot {
        let (core, now) = (&*self.0, Time::now());
        let recent = core.counts.recent(now);
        Snapshot {
            name: core.name,
            calls: recent.calls,
            accepted: recent.accepted,
            probability: core.terms.probability(recent),
            overloaded_total: core.counts.overloaded_total.sum(),
            rejected_total: core.counts.rejected_total.sum(),
        }
    }
}

impl Core {
    /// Decides about a call. Asked only while something was refused lately.
    #[cold]
    fn refuses(&self, now: Time) -> bool {
        let until = self.pressure.load(Relaxed);
        // A clock may go back; a time beyond the next window must not keep up the pressure.
        if now >= Time(until) || Time(until).since(now) > self.counts.lasts() {
            // Lost to whoever has just set another time, as it should be.
            let _ = self.pressure.compare_exchange(until, 0, Relaxed, Relaxed);
            return false;
        }
        let p = self.probability(now);
        // Not even the dice are shared while nothing is refused.
        if p <= 0.0 || self.dice.unit() >= p {
            return false;
        }
        self.counts.held_back(now);
        self.press(now);
        true
    }

    /// Returns the share of calls to hold back, as it was at the first call of this hundredth of a
    /// window: to add up all threads' counts for each call would cost more than the call.
    fn probability(&self, now: Time) -> f64 {
        let word = self.cached.load(Relaxed);
        match word != NOTHING && word >> 32 == u64::from(self.counts.hundredth(now)) {
            true => f32::from_bits(word as u32).into(),
            false => self.look(now),
        }
    }

    fn look(&self, now: Time) -> f64 {
        let p = self.terms.probability(self.counts.recent(now));
        debug_assert!((0.0..1.0).contains(&p), "a share of {p} is held back");
        let word = u64::from(self.counts.hundredth(now)) << 32 | u64::from((p as f32).to_bits());
        self.cached.store(word, Relaxed);
        p
    }

    #[cold]
    fn overloaded(&self, now: Time) {
        self.counts.overloaded(now);
        // A burst must not be over before its first refusals are noticed. Looked before the
        // pressure is on, so that nobody takes what was looked up long ago, in a hundredth with the
        // same number.
        self.look(now);
        self.press(now);
    }

    fn press(&self, now: Time) {
        let until = self.counts.gone_after(now).0;
        if self.pressure.load(Relaxed) != until {
            self.pressure.store(until, Relaxed);
        }
    }
}

impl GuardBase for Throttle {
    type Permit = ();
    type Wait = Never;

    // Always: how nearly all calls end is known where they call this.
    #[inline(always)]
    fn settle(&self, (): (), end: End, now: &Now) {
        match end {
            End::Done(Outcome::Success | Outcome::Failure | Outcome::Ignored) => {
                self.0.counts.accepted(now.get());
            }
            End::Done(Outcome::Overloaded { .. }) => self.0.overloaded(now.get()),
            End::Done(Outcome::Refused)
            | End::TimedOut
            | End::Cancelled
            | End::RequestFailed
            | End::Panicked
            | End::NeverStarted => {}
        }
    }
}

impl<Req> Guard<Req> for Throttle {
    #[inline]
    fn admit(&self, _: &Req, now: &Now) -> Admission<(), Never> {
        let core = &*self.0;
        if core.pressure.load(Relaxed) != 0 && core.refuses(now.get()) {
            // With no time to come back: a coin was tossed, and the next one may fall otherwise.
            return Admission::Refused(Rejected::new(Kind::Throttled, core.name));
        }
        Admission::Admitted(())
    }
}

/// What a throttle has done so far, and what it would do now.
///
/// [`Throttle::snapshot`] takes it. With the `registry` feature it can be serialised, and the
/// metrics in the [module's table](self#metrics) are made from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The throttle's name.
    pub name: &'static str,
    /// Calls in the window, those held back included.
    pub calls: u64,
    /// Calls in the window that the service accepted.
    pub accepted: u64,
    /// The share of calls that is held back now, from 0 to 1.
    pub probability: f64,
    /// Calls that the service refused since the throttle was made.
    pub overloaded_total: u64,
    /// Calls held back since the throttle was made.
    pub rejected_total: u64,
}
