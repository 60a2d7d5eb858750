//! A tuple of guards is a guard.

use super::{Admission, End, Guard, GuardBase, Never, WaitProgress};
use crate::{
    classify::Outcome,
    clock::Now,
    error::{Kind, Rejected},
};
use std::{task::Context, time::Duration};

/// The wait of a call at a pair of guards.
///
/// # Invariants
/// 1. While the second guard's wait goes on, the first guard's permit is held here. It goes to the
///    admitted call, or is settled as [`End::NeverStarted`].
/// 2. The first guard hears of the beginning of that wait, and of its end before anything else.
#[derive(Debug)]
pub enum PairWait<AWait, APermit, BWait> {
    /// The first guard waits; the second has not been asked.
    First(AWait),
    /// The second guard waits. The first one's permit is held here; `None` once the wait is over.
    Second(Option<APermit>, BWait),
}

/// A [`Wait`](GuardBase::Wait) type without values, which shows that its guard decides at once.
///
/// [`GuardLayer`](super::GuardLayer) requires it, so that the compiler knows that no call waits.
#[diagnostic::on_unimplemented(
    message = "a guard of this layer may wait (`{Self}`), and its calls need a service to wait with",
    label = "may wait",
    note = "use `WaitLayer`, which clones the service for a call that waits; a policy's own `.layer()` is the right one",
    note = "a guard of your own that never waits has `type Wait = Never`"
)]
pub trait Immediate {
    /// Returns a value of any type. It can never be called, because no value of this type exists.
    fn never<T>(self) -> T;
}

impl Immediate for Never {
    fn never<T>(self) -> T {
        match self {}
    }
}

impl<A: Immediate, P, B: Immediate> Immediate for PairWait<A, P, B> {
    fn never<T>(self) -> T {
        match self {
            Self::First(wait) => wait.never(),
            Self::Second(_, wait) => wait.never(),
        }
    }
}

/// Begins the wait for the second guard, of a call that the first one has admitted.
// Apart, so that the permit of a call that does not wait need not lie where this could write to it.
#[cold]
fn begin_second<A: GuardBase, BWait>(
    guard: &A,
    mut permit: A::Permit,
    wait: BWait,
    now: &Now,
) -> PairWait<A::Wait, A::Permit, BWait> {
    guard.on_wait_begin(&mut permit, now);
    PairWait::Second(Some(permit), wait)
}

/// Ends the wait for the second guard, and returns the first one's permit.
fn end_second<A: GuardBase>(
    guard: &A,
    permit: &mut Option<A::Permit>,
    now: &Now,
) -> Option<A::Permit> {
    let mut permit = permit.take()?;
    // It began when the call was admitted.
    guard.on_wait_end(&mut permit, Duration::MAX, now);
    Some(permit)
}

/// The first guard's permit while the second one is asked, whose key, cost or priority may be code
/// of the application: if that panics, the permit is given back.
struct HeldFirst<'a, A: GuardBase> {
    guard: &'a A,
    permit: Option<A::Permit>,
    now: &'a Now,
}

impl<A: GuardBase> Drop for HeldFirst<'_, A> {
    #[inline]
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.guard.settle(permit, End::NeverStarted, self.now);
        }
    }
}

/// The answer of a pair of guards to a call.
type PairAdmission<A, B> = Admission<<(A, B) as GuardBase>::Permit, <(A, B) as GuardBase>::Wait>;

/// Asks the second guard about a call that the first has admitted with this permit.
#[inline(always)]
fn admit_second<Req, A: GuardBase, B: Guard<Req>>(
    (first, second): &(A, B),
    permit: A::Permit,
    req: &Req,
    now: &Now,
) -> PairAdmission<A, B> {
    let mut held = HeldFirst {
        guard: first,
        permit: Some(permit),
        now,
    };
    let answer = second.admit(req, now);
    let Some(a) = held.permit.take() else {
        debug_assert!(false, "only a panic takes it");
        return Admission::Refused(Rejected::new(Kind::NotReady, "guard"));
    };
    match answer {
        Admission::Admitted(b) => Admission::Admitted((a, b)),
        Admission::Refused(rejected) => {
            first.settle(a, End::NeverStarted, now);
            Admission::Refused(rejected)
        }
        Admission::Wait(wait) => Admission::Wait(begin_second(first, a, wait, now)),
    }
}

impl<A: GuardBase, B: GuardBase> GuardBase for (A, B) {
    type Permit = (A::Permit, B::Permit);
    type Wait = PairWait<A::Wait, A::Permit, B::Wait>;

    // Always: how nearly all calls end is known where they call this.
    #[inline(always)]
    fn settle(&self, (a, b): Self::Permit, end: End, now: &Now) {
        self.1.settle(b, end, now);
        self.0.settle(a, end, now);
    }

    #[inline]
    fn on_pending(&self, (a, b): &mut Self::Permit, now: &Now) {
        self.0.on_pending(a, now);
        self.1.on_pending(b, now);
    }

    #[inline]
    fn on_wait_begin(&self, (a, b): &mut Self::Permit, now: &Now) {
        self.0.on_wait_begin(a, now);
        self.1.on_wait_begin(b, now);
    }

    #[inline]
    fn on_wait_end(&self, (a, b): &mut Self::Permit, waited: Duration, now: &Now) {
        self.0.on_wait_end(a, waited, now);
        self.1.on_wait_end(b, waited, now);
    }

    #[inline]
    fn on_answer(&self, (a, b): &mut Self::Permit, outcome: Outcome, now: &Now) {
        self.0.on_answer(a, outcome, now);
        self.1.on_answer(b, outcome, now);
    }

    fn abandon(&self, wait: Self::Wait, now: &Now) {
        match wait {
            PairWait::First(wait) => self.0.abandon(wait, now),
            PairWait::Second(mut permit, wait) => {
                self.1.abandon(wait, now);
                if let Some(permit) = end_second(&self.0, &mut permit, now) {
                    self.0.settle(permit, End::NeverStarted, now);
                }
            }
        }
    }

    #[inline]
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        self.0.poll_closed(cx, now) || self.1.poll_closed(cx, now)
    }

    fn ready_failed(&self, now: &Now) {
        self.1.ready_failed(now);
        self.0.ready_failed(now);
    }
}

impl<Req, A: Guard<Req>, B: Guard<Req>> Guard<Req> for (A, B) {
    // Always, so that no permit is returned through memory: see "Values on the hot path" in
    // shared.rs.
    #[inline(always)]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Self::Permit, Self::Wait> {
        let a = match self.0.admit(req, now) {
            Admission::Admitted(permit) => permit,
            Admission::Refused(rejected) => return Admission::Refused(rejected),
            Admission::Wait(wait) => return Admission::Wait(PairWait::First(wait)),
        };
        admit_second(self, a, req, now)
    }

    fn poll_wait(
        &self,
        wait: &mut Self::Wait,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Self::Permit> {
        if let PairWait::First(first) = wait {
            let a = match self.0.poll_wait(first, req, cx, now) {
                WaitProgress::Admitted(permit) => permit,
                WaitProgress::Refused(rejected) => return WaitProgress::Refused(rejected),
                WaitProgress::Pending(until) => return WaitProgress::Pending(until),
            };
            // Should that panic, the first guard's wait is abandoned.
            match self.1.admit(req, now) {
                Admission::Admitted(b) => return WaitProgress::Admitted((a, b)),
                Admission::Refused(rejected) => {
                    self.0.settle(a, End::NeverStarted, now);
                    return WaitProgress::Refused(rejected);
                }
                Admission::Wait(second) => *wait = begin_second(&self.0, a, second, now),
            }
        }
        // Always the second by now. A carrier that asks again after the wait was over stays pending
        // for good rather than be let in without the first permit.
        let PairWait::Second(a @ Some(_), second) = wait else {
            debug_assert!(false, "a wait was polled after it was over");
            return WaitProgress::Pending(None);
        };
        match self.1.poll_wait(second, req, cx, now) {
            WaitProgress::Admitted(b) => match end_second(&self.0, a, now) {
                Some(a) => WaitProgress::Admitted((a, b)),
                None => {
                    debug_assert!(false, "the first permit left before the wait was over");
                    self.1.settle(b, End::NeverStarted, now);
                    WaitProgress::Pending(None)
                }
            },
            WaitProgress::Refused(rejected) => {
                if let Some(a) = end_second(&self.0, a, now) {
                    self.0.settle(a, End::NeverStarted, now);
                }
                WaitProgress::Refused(rejected)
            }
            WaitProgress::Pending(until) => WaitProgress::Pending(until),
        }
    }
}

/// Three and four guards are pairs of pairs.
macro_rules! nest {
    ($($guard:ident)+, $nested:ty, $self:ident => $pairs:expr) => {
        impl<$($guard: GuardBase),+> GuardBase for ($($guard,)+) {
            type Permit = <$nested as GuardBase>::Permit;
            type Wait = <$nested as GuardBase>::Wait;

            #[inline]
            fn settle(&$self, permit: Self::Permit, end: End, now: &Now) {
                $pairs.settle(permit, end, now);
            }
            #[inline]
            fn on_pending(&$self, permit: &mut Self::Permit, now: &Now) {
                $pairs.on_pending(permit, now);
            }
            #[inline]
            fn on_wait_begin(&$self, permit: &mut Self::Permit, now: &Now) {
                $pairs.on_wait_begin(permit, now);
            }
            #[inline]
            fn on_wait_end(&$self, permit: &mut Self::Permit, waited: Duration, now: &Now) {
                $pairs.on_wait_end(permit, waited, now);
            }
            #[inline]
            fn on_answer(&$self, permit: &mut Self::Permit, outcome: Outcome, now: &Now) {
                $pairs.on_answer(permit, outcome, now);
            }
            fn abandon(&$self, wait: Self::Wait, now: &Now) {
                $pairs.abandon(wait, now);
            }
            #[inline]
            fn poll_closed(&$self, cx: &mut Context<'_>, now: &Now) -> bool {
                $pairs.poll_closed(cx, now)
            }
            fn ready_failed(&$self, now: &Now) {
                $pairs.ready_failed(now);
            }
        }

        impl<Req, $($guard: Guard<Req>),+> Guard<Req> for ($($guard,)+) {
            #[inline]
            fn admit(&$self, req: &Req, now: &Now) -> Admission<Self::Permit, Self::Wait> {
                $pairs.admit(req, now)
            }
            fn poll_wait(
                &$self, wait: &mut Self::Wait, req: &Req, cx: &mut Context<'_>, now: &Now,
            ) -> WaitProgress<Self::Permit> {
                $pairs.poll_wait(wait, req, cx, now)
            }
        }
    };
}
nest!(A B C, (A, (B, C)), self => (&self.0, (&self.1, &self.2)));
nest!(A B C D, ((A, B), (C, D)), self => ((&self.0, &self.1), (&self.2, &self.3)));
