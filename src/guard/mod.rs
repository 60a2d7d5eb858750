//! Guards: policies that decide whether a call may start, and learn from how it ends.
//!
//! A guard is a pure decision ([`Guard::admit`]) and a permit that is plain data. This module does
//! the rest, once for all guards: it reads the clock, asks the guard, calls the inner service,
//! classifies the end of the call, and gives the permit back (*settles* it), even if the call's
//! future is dropped or the service panics. Which form to use depends on what is guarded:
//!
//! | to guard | use | the guard |
//! |---|---|---|
//! | a closure | [`run`](fn@run), or the policy's own `run` and `run_for` methods | may wait |
//! | a closure, with a word on what its results mean | the policy's `classify`, or [`classify`] | may wait |
//! | what outlives its call, such as a WebSocket | [`hold`] | decides at once |
//! | a tower service | [`GuardLayer`] | decides at once |
//! | a tower service that can be cloned | [`WaitLayer`] | may wait |
//! | a tower service whose callers heed `poll_ready` | [`ReserveLayer`] | holds callers back ([`Reserve`]) |
//!
//! A tuple of two to four guards is a guard. It asks them from left to right. When one refuses, the
//! permits of those before it are settled as [`End::NeverStarted`]. An `Option` of a guard is a
//! guard: `None` admits every call. [`Shadow`] observes a guard without obeying it.
//!
//! # A guard of your own
//!
//! A guard that decides at once has three things to say: what it gives to a call that it lets in
//! (the permit), whom it lets in, and what it learns from the end.
//!
//! ```
//! use buttress::{Error, Guard, GuardBase, Kind, Now, Rejected};
//! use buttress::guard::{self, Admission, End, Never};
//!
//! /// Lets calls in on even numbers only.
//! struct Even;
//!
//! impl GuardBase for Even {
//!     type Permit = ();
//!     type Wait = Never;
//!     fn settle(&self, _: (), _: End, _: &Now) {}
//! }
//!
//! impl Guard<u64> for Even {
//!     fn admit(&self, n: &u64, _: &Now) -> Admission<()> {
//!         match n % 2 {
//!             0 => Admission::Admitted(()),
//!             _ => Admission::Refused(Rejected::new(Kind::Overloaded, "even")),
//!         }
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
//!
//! In the repository, `examples/short/own_guard.rs` has a guard that learns, used as a layer. A
//! guard whose calls may wait also implements [`Guard::poll_wait`] and [`GuardBase::abandon`].

mod by_request;
mod call_guard;
mod call_stage;
mod classified;
mod hold;
mod layer;
mod option;
mod reserve;
mod run;
mod service;
mod settle;
mod shadow;
mod tuple;
mod wait;

pub use by_request::{AnyStrategy, ByRequest, ChosenStrategy, StrategyFor};
pub use call_guard::{CallGuard, GuardRef, SharedGuard, StrategyRef};
pub use classified::{Classified, classify};
pub use hold::{HeldPermit, hold};
pub use layer::{GuardLayer, ReserveLayer, WaitLayer};
pub use reserve::{Reserve, ReserveService};
pub use run::run;
pub use service::{GuardFuture, GuardService};
pub use settle::{OnResponse, Settle, Strategy, Unclassified};
pub use shadow::{Shadow, Snapshot as ShadowSnapshot};
pub use tuple::{Immediate, PairWait};
#[cfg(any(feature = "retry", feature = "timeout"))]
pub(crate) use wait::poll_until;
pub use wait::{WaitFuture, WaitService};

use crate::{
    classify::Outcome,
    clock::{Now, Time},
    error::Rejected,
};
use std::{mem, task::Context, time::Duration};

/// The end of an admitted call, as its guard is told of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// It ended with a result, which the layer's classifier has judged.
    Done(Outcome),
    /// It was dropped before its result, or cut off by a limit that its caller had chosen, such as
    /// a deadline that came with the request.
    Cancelled,
    /// It was cut off while it was in the service, by a limit that the operator of this process had
    /// set: a `Timeout` or a `DeadlineLayer`, inside this guard or outside of it.
    TimedOut,
    /// The request of its caller broke off before its end, or was still being sent when a limit cut
    /// the call off.
    RequestFailed,
    /// It ended in a panic of the inner service or of the classifier.
    Panicked,
    /// It never reached the service: another guard refused it after this one had admitted it, the
    /// service failed to become ready, the call was dropped before it started, or the closure that
    /// chooses its strategy ([`ByRequest`]) panicked. What the permit took should be given back in
    /// full.
    NeverStarted,
}

/// A guard's answer to a call: whether it may start.
///
/// The enum is exhaustive on purpose, so that a guard around another guard can pass on every
/// answer.
#[derive(Debug)]
pub enum Admission<P, W = Never> {
    /// It may start, with this permit.
    Admitted(P),
    /// It may not start, and this is why.
    Refused(Rejected),
    /// It may not start yet; [`Guard::poll_wait`] says what becomes of this wait.
    Wait(W),
}

/// What has become of a wait.
///
/// The enum is exhaustive on purpose, so that a guard around another guard can pass on every
/// answer.
#[derive(Debug)]
pub enum WaitProgress<P> {
    /// The wait is over: the call may start, with this permit.
    Admitted(P),
    /// The wait is over: the call may not start, and this is why.
    Refused(Rejected),
    /// The wait goes on. The guard is asked again when the task is woken and, if a time is given
    /// here, at that time at the latest. If none is, the guard must have kept the task's waker.
    Pending(Option<Time>),
}

/// The [`Wait`](GuardBase::Wait) type of a guard that decides at once. It has no values.
#[derive(Debug)]
pub enum Never {}

/// The half of a guard that does not depend on the type of the request.
///
/// It is separate from [`Guard`] so that futures and response bodies, which settle permits, need
/// not name the request's type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a guard",
    label = "not a guard",
    note = "guards are `CircuitBreaker`, `KeyedCircuitBreaker`, `RateLimiter` and `WaitingLimiter`, `LoadShed` and its `Queued`, `Throttle`, and `Shadow` around any of them; references to them, an `Option` of one, and tuples of two to four",
    note = "a builder becomes a guard with `.build()`; `Timeout`, `Retry` and `Cache` are not guards, and have `.layer()` and `.run(..)` of their own"
)]
pub trait GuardBase {
    /// What an admitted call holds: plain data, given back through [`settle`](Self::settle).
    type Permit;
    /// What a waiting call holds. [`Never`] for a guard that decides at once.
    type Wait;

    /// Takes back the permit of a call that has ended, and learns from how it ended.
    ///
    /// Called exactly once for every permit, even when a future is dropped or a panic unwinds. So
    /// it should neither block nor panic.
    fn settle(&self, permit: Self::Permit, end: End, now: &Now);

    /// Notes that a call has not ended at its first poll. Does nothing by default.
    ///
    /// Called at most once for every permit. A guard that must know how long calls run first reads
    /// the clock here: a call that ends at its first poll was not slow, and is spared the clock
    /// read.
    #[inline]
    fn on_pending(&self, _permit: &mut Self::Permit, _now: &Now) {}

    /// Notes that a call has begun to wait for another policy of this process, and until the end of
    /// that is not in the service. Does nothing by default.
    ///
    /// Called for every such wait, and followed by [`on_wait_end`](Self::on_wait_end): in a retry's
    /// backoff, in a queue, for another's load of a cache; and of a call that has not started, in
    /// the queue of the next guard of a tuple, and for a service that is not ready after one. A
    /// guard that counts the calls which are running leaves this one out from now on. A wait that
    /// is polled in between may be told of as several. A call that waits and runs at once, as in a
    /// `join!`, counts as waiting.
    #[inline]
    fn on_wait_begin(&self, _permit: &mut Self::Permit, _now: &Now) {}

    /// Notes that a call's wait for another policy of this process is over, and that it spent so
    /// much of its time in it, and not in the service. Does nothing by default.
    ///
    /// Called once after every [`on_wait_begin`](Self::on_wait_begin), also if the call is dropped
    /// while it waits: then it is settled next. `waited` may be longer than the call has run, which
    /// means the whole of that time.
    #[inline]
    fn on_wait_end(&self, _permit: &mut Self::Permit, _waited: Duration, _now: &Now) {}

    /// Notes that the answer to a call has begun, with this outcome as far as it is known by now,
    /// and that its body goes on. Does nothing by default.
    ///
    /// Called at most once for every permit, by strategies that end calls with the body: when the
    /// head of an HTTP response is there, or the first message of a gRPC stream. How the call ends
    /// is [settled](Self::settle) later all the same.
    #[inline]
    fn on_answer(&self, _permit: &mut Self::Permit, _outcome: Outcome, _now: &Now) {}

    /// Ends a wait whose call was dropped. Only drops the wait by default.
    ///
    /// A guard that keeps a place in a queue for each wait gives up that place here. If a permit
    /// was granted to the wait in the meantime, it goes to the next in line.
    #[inline]
    fn abandon(&self, wait: Self::Wait, _now: &Now) {
        drop(wait);
    }

    /// Returns whether every request would be refused now. `false` by default.
    ///
    /// Asked while the inner service is not ready: a call that would be refused anyway need not
    /// wait for the service. A guard that returns `false` but may return `true` later should keep
    /// the task's waker, and wake it then.
    #[inline]
    fn poll_closed(&self, _cx: &mut Context<'_>, _now: &Now) -> bool {
        false
    }

    /// Learns that the inner service failed to become ready. Does nothing by default.
    ///
    /// Called once for each error of its `poll_ready`, unless that was a refusal by a policy
    /// further in. There is no permit, and no request: a connection that cannot be made fails
    /// before any call does. A permit that a call already has is settled as [`End::NeverStarted`]
    /// first.
    #[inline]
    fn ready_failed(&self, _now: &Now) {}
}

/// A policy that decides whether a call with a request of type `Req` may start.
///
/// The [module](self) shows a small one. If a guard does not look at requests, implement this for
/// all `Req`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a guard for requests of type `{Req}`",
    label = "does not decide about `{Req}`",
    note = "guards are `CircuitBreaker`, `KeyedCircuitBreaker`, `RateLimiter` and `WaitingLimiter`, `LoadShed` and its `Queued`, `Throttle`, and `Shadow` around any of them; references to them, an `Option` of one, and tuples of two to four",
    note = "a guard with a key needs one for this type of request, `|req: &{Req}| ...`; so do a cost and a priority",
    note = "a builder becomes a guard with `.build()`; `Timeout`, `Retry` and `Cache` are not guards, and have `.layer()` and `.run(..)` of their own"
)]
pub trait Guard<Req>: GuardBase {
    /// Decides whether this call may start.
    ///
    /// `now` reads the clock when it is first asked, so a guard that needs no time causes no read.
    fn admit(&self, req: &Req, now: &Now) -> Admission<Self::Permit, Self::Wait>;

    /// Returns what has become of a wait.
    ///
    /// Called as soon as a wait begins, and then whenever the task is woken or the time in
    /// [`WaitProgress::Pending`] has come. Never called for a guard whose wait is [`Never`].
    ///
    /// By default it calls [`admit`](Self::admit) again, at once and then every millisecond. That
    /// suits a guard that only looks whether there is room, and keeps no order among waiting calls.
    fn poll_wait(
        &self,
        wait: &mut Self::Wait,
        req: &Req,
        _cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Self::Permit> {
        match self.admit(req, now) {
            Admission::Admitted(permit) => WaitProgress::Admitted(permit),
            Admission::Refused(rejected) => WaitProgress::Refused(rejected),
            Admission::Wait(next) => {
                self.abandon(mem::replace(wait, next), now);
                WaitProgress::Pending(Some(now.get().after(Duration::from_millis(1))))
            }
        }
    }
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
    fn on_wait_begin(&self, permit: &mut G::Permit, now: &Now) {
        (**self).on_wait_begin(permit, now);
    }
    #[inline]
    fn on_wait_end(&self, permit: &mut G::Permit, waited: Duration, now: &Now) {
        (**self).on_wait_end(permit, waited, now);
    }
    #[inline]
    fn on_answer(&self, permit: &mut G::Permit, outcome: Outcome, now: &Now) {
        (**self).on_answer(permit, outcome, now);
    }
    #[inline]
    fn abandon(&self, wait: G::Wait, now: &Now) {
        (**self).abandon(wait, now);
    }
    #[inline]
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        (**self).poll_closed(cx, now)
    }
    #[inline]
    fn ready_failed(&self, now: &Now) {
        (**self).ready_failed(now);
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
