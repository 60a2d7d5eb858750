//! A guard that is observed and not obeyed.

use super::{Admission, End, Guard, GuardBase, GuardLayer, Never};
use crate::{Name, classify::Outcome, clock::Now, striped::StripedCounter};
use std::{fmt, sync::Arc, time::Duration};

/// A guard around another one that lets every call in, and counts those that the other would have
/// refused or made wait.
///
/// So a limit is tried on real traffic before anybody is refused by it. The guard inside learns
/// from the calls that it admitted, as ever. It does not hear of the ends of the others, so what it
/// would do is told best for what it would do first: once it refuses many, the calls that run
/// beside those that it knows of are a load that it would not have let in.
///
/// The guard inside also counts what it refuses, in its own `rejected_total`. A
/// [`CircuitBreaker`](crate::CircuitBreaker) can observe by itself, with `observe_only`, and then
/// learns from all calls: use that for a breaker alone.
///
/// ```
/// # #[cfg(feature = "rate-limit")] {
/// use buttress::{Error, RateLimiter, guard::Shadow};
/// use std::{io, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), buttress::InvalidConfig> {
/// let limiter = RateLimiter::new("api", 1, Duration::from_secs(1))?;
/// let trial = Shadow::new("api", limiter);
/// for _ in 0..3 {
///     match trial.run(async || Ok::<_, Error<io::Error>>("answered")).await {
///         Ok(answer) => println!("{answer}"),
///         Err(Error::Rejected(rejected)) => println!("a policy inside refused: {rejected}"),
///         Err(Error::Service(error)) => println!("{error}"),
///     }
/// }
/// assert_eq!(trial.snapshot().admitted_total, 1);
/// assert_eq!(trial.snapshot().would_reject_total, 2);
/// # Ok(())
/// # }
/// # }
/// ```
///
/// # Metrics
///
/// What a registered shadow publishes (feature `registry`), labelled with its name as `policy`:
///
/// | metric | kind | |
/// |---|---|---|
/// | `buttress_shadow_admitted_total` | counter | calls that the guard inside admitted |
/// | `buttress_shadow_would_reject_total` | counter | calls let in that it would have refused |
/// | `buttress_shadow_would_wait_total` | counter | calls let in that it would have made wait |
///
/// # Clone
/// A clone shares the counts, and the state of the guard inside if clones of that do.
#[doc(alias("dry_run", "observe_only", "report_only"))]
#[derive(Clone)]
pub struct Shadow<G> {
    guard: G,
    counts: Arc<Counts>,
}

struct Counts {
    name: &'static str,
    admitted: StripedCounter,
    would_reject: StripedCounter,
    would_wait: StripedCounter,
}

impl<G> Shadow<G> {
    /// Creates a guard that lets in whatever `guard` says, under a name for its own snapshots.
    pub fn new(name: impl Into<Name>, guard: G) -> Self {
        let counts = Counts {
            name: name.into().as_str(),
            admitted: StripedCounter::default(),
            would_reject: StripedCounter::default(),
            would_wait: StripedCounter::default(),
        };
        Self {
            guard,
            counts: Arc::new(counts),
        }
    }

    /// Returns the name of the shadow.
    pub fn name(&self) -> &'static str {
        self.counts.name
    }

    /// Returns the guard that is observed.
    pub const fn get_ref(&self) -> &G {
        &self.guard
    }

    /// Returns what the guard inside has said so far.
    pub fn snapshot(&self) -> Snapshot {
        let counts = &*self.counts;
        Snapshot {
            name: counts.name,
            admitted_total: counts.admitted.sum(),
            would_reject_total: counts.would_reject.sum(),
            would_wait_total: counts.would_wait.sum(),
        }
    }
}

impl<G: GuardBase + Clone> Shadow<G> {
    guard_runs! {
        /// Runs `op`, whatever the guard inside says to it. An `Err` is a failure, for the guard to
        /// learn from, unless a policy inside `op` refused the call.
        run
    }
    guard_runs!(classify);
}

impl<G: GuardBase + Clone + Send + Sync + 'static> Shadow<G> {
    /// Returns a tower layer, which still has to be told what responses mean: by `.http()`,
    /// `.grpc()` or [`GuardLayer::classify`]. It never waits, so a guard that does can be observed
    /// in it too.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}

/// What the guard inside a [`Shadow`] has said so far.
///
/// [`Shadow::snapshot`] takes it. With the `registry` feature it can be serialised, and metrics are
/// made from it. What ends in `_total` counts since the shadow was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the shadow.
    pub name: &'static str,
    /// Calls that the guard inside admitted.
    pub admitted_total: u64,
    /// Calls that were let in though the guard inside would have refused them.
    pub would_reject_total: u64,
    /// Calls that were let in though the guard inside would have made them wait, whatever would
    /// have become of the wait.
    pub would_wait_total: u64,
}

impl<G: GuardBase> GuardBase for Shadow<G> {
    /// `None` for a call that the guard inside has not admitted.
    type Permit = Option<G::Permit>;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: Self::Permit, end: End, now: &Now) {
        if let Some(permit) = permit {
            self.guard.settle(permit, end, now);
        }
    }

    #[inline]
    fn on_pending(&self, permit: &mut Self::Permit, now: &Now) {
        if let Some(permit) = permit {
            self.guard.on_pending(permit, now);
        }
    }

    #[inline]
    fn on_wait_begin(&self, permit: &mut Self::Permit, now: &Now) {
        if let Some(permit) = permit {
            self.guard.on_wait_begin(permit, now);
        }
    }

    #[inline]
    fn on_wait_end(&self, permit: &mut Self::Permit, waited: Duration, now: &Now) {
        if let Some(permit) = permit {
            self.guard.on_wait_end(permit, waited, now);
        }
    }

    #[inline]
    fn on_answer(&self, permit: &mut Self::Permit, outcome: Outcome, now: &Now) {
        if let Some(permit) = permit {
            self.guard.on_answer(permit, outcome, now);
        }
    }

    fn ready_failed(&self, now: &Now) {
        self.guard.ready_failed(now);
    }

    // `poll_closed` stays `false`: no call is refused.
}

impl<Req, G: Guard<Req>> Guard<Req> for Shadow<G> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Self::Permit, Never> {
        Admission::Admitted(match self.guard.admit(req, now) {
            Admission::Admitted(permit) => {
                self.counts.admitted.add(1);
                Some(permit)
            }
            Admission::Refused(_) => {
                self.counts.would_reject.add(1);
                None
            }
            Admission::Wait(wait) => {
                self.guard.abandon(wait, now);
                self.counts.would_wait.add(1);
                None
            }
        })
    }
}

impl<G: fmt::Debug> fmt::Debug for Shadow<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("name", &self.name())
            .field("guard", &self.guard)
            .finish()
    }
}
