//! The plumbing of every guard, written once.
//!
//! A guard decides whether a call may start and learns from how it ends. It is a pure decision and
//! a permit that is plain data; this module carries it: reads the clock, admits, calls the inner
//! service, classifies the end, settles, and gives the permit back when the call's future is
//! dropped. A tuple of guards is a guard, admitted left to right; when a later one refuses, the
//! permits of the earlier ones end as [`End::NeverStarted`].
//!
//! ```
//! use buttress::{Error, Rejected, guard::{self, Admission, End, Guard, Never, GuardBase, WaitProgress}};
//! use buttress::{Kind, Now};
//!
//! /// Lets calls in on even numbers only.
//! struct Even;
//!
//! impl GuardBase for Even {
//!     type Permit = ();
//!     type Wait = Never;
//!     fn settle(&self, _: (), _: End, _: &Now) {}
//!     fn abandon(&self, wait: Never, _: &Now) {
//!         match wait {}
//!     }
//! }
//!
//! impl Guard<u64> for Even {
//!     fn admit(&self, n: &u64, _: &Now) -> Admission<(), Never> {
//!         match n % 2 {
//!             0 => Admission::Admitted(()),
//!             _ => Admission::Refused(Rejected::new(Kind::Overloaded, "even")),
//!         }
//!     }
//!     fn poll_wait(
//!         &self, wait: &mut Never, _: &u64, _: &mut std::task::Context<'_>, _: &Now,
//!     ) -> WaitProgress<()> {
//!         match *wait {}
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let answer = guard::run(&Even, &4, async || Ok::<_, Error<std::io::Error>>("in")).await;
//! assert_eq!(answer.unwrap(), "in");
//! let refused = guard::run(&Even, &5, async || Ok::<_, Error<std::io::Error>>("in")).await;
//! assert!(matches!(refused, Err(Error::Rejected(_))));
//! # }
//! ```

mod held;
mod layer;
mod reserve;
mod run;
mod service;
mod settle;
mod tuple;
mod wait;

pub use held::{CallGuard, GuardRef, SharedGuard};
pub use layer::{GuardLayer, ReserveLayer, WaitLayer};
pub use reserve::{Reserve, ReserveService};
pub use run::run;
pub use service::{GuardFuture, GuardService};
pub use settle::{OnResponse, Settle, Strategy, Unclassified};
pub use tuple::{Immediate, PairWait};
#[cfg(feature = "retry")]
pub(crate) use wait::poll_until;
pub use wait::{WaitFuture, WaitService};

use crate::{
    classify::Outcome,
    clock::{Now, Time},
    error::Rejected,
};
use std::task::Context;

/// How an admitted call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With a result, of this meaning.
    Done(Outcome),
    /// Dropped before its result, or given up because its caller's deadline had passed.
    Cancelled,
    /// By a panic of the inner service or of the classifier.
    Panicked,
    /// It never reached the service: another guard refused it after this one had admitted it.
    NeverStarted,
}

/// Whether a call may start.
#[derive(Debug)]
pub enum Admission<P, W> {
    /// It may, with this permit.
    Admitted(P),
    /// It may not.
    Refused(Rejected),
    /// Not yet.
    Wait(W),
}

/// What has become of a wait. The wait is a value: whoever carries the call owns its only timer.
#[derive(Debug)]
pub enum WaitProgress<P> {
    /// It is over: the call may start.
    Admitted(P),
    /// It is over: the call may not start.
    Refused(Rejected),
    /// Ask again when the task is woken, or at this time.
    Pending(Option<Time>),
}

/// The wait of a guard that decides at once: there is none.
#[derive(Debug)]
pub enum Never {}

/// The half of a guard that knows nothing of the request, so that futures need not either.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a guard",
    note = "guards are `CircuitBreaker`, `RateLimiter`, references to them, and tuples of up to four"
)]
pub trait GuardBase {
    /// What an admitted call holds: plain data, given back by [`settle`](Self::settle).
    type Permit;
    /// What a waiting call holds; [`Never`] for a guard that decides at once.
    type Wait;

    /// The call ended: take its permit back and learn.
    fn settle(&self, permit: Self::Permit, end: End, now: &Now);

    /// The call did not end at its first poll.
    ///
    /// This is where a guard that must know how long calls run reads the clock for the first time:
    /// a call that ends at once was not slow, and does not pay for the question.
    #[inline]
    fn on_pending(&self, _permit: &mut Self::Permit, _now: &Now) {}

    /// A waiting call was dropped.
    fn abandon(&self, wait: Self::Wait, now: &Now);

    /// Would any request be refused now? Then the rejection need not wait for an inner service
    /// that is not ready. A guard that says no, and may change its mind, wakes the task then.
    #[inline]
    fn poll_closed(&self, _cx: &mut Context<'_>, _now: &Now) -> bool {
        false
    }
}

/// A policy that decides about requests of type `Req`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a guard for requests of type `{Req}`",
    note = "guards are `CircuitBreaker`, `RateLimiter`, references to them, and tuples of up to four",
    note = "a keyed guard needs a key for this type of request: `|req: &{Req}| ...`"
)]
pub trait Guard<Req>: GuardBase {
    /// May this call start?
    fn admit(&self, req: &Req, now: &Now) -> Admission<Self::Permit, Self::Wait>;

    /// What has become of the wait? Asked whenever the task is woken or the parked time is reached.
    fn poll_wait(
        &self,
        wait: &mut Self::Wait,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Self::Permit>;
}

impl<G: GuardBase> GuardBase for &G {
    type Permit = G::Permit;
    type Wait = G::Wait;

    #[inline]
    fn settle(&self, permit: G::Permit, end: End, now: &Now) {
        (**self).settle(permit, end, now);
    }
    #[inline]
    fn on_pending(&self, permit: &mut G::Permit, now: &Now) {
        (**self).on_pending(permit, now);
    }
    #[inline]
    fn abandon(&self, wait: G::Wait, now: &Now) {
        (**self).abandon(wait, now);
    }
    #[inline]
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        (**self).poll_closed(cx, now)
    }
}

impl<Req, G: Guard<Req>> Guard<Req> for &G {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<G::Permit, G::Wait> {
        (**self).admit(req, now)
    }
    #[inline]
    fn poll_wait(
        &self,
        wait: &mut G::Wait,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<G::Permit> {
        (**self).poll_wait(wait, req, cx, now)
    }
}
