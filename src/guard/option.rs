//! A guard that may be absent.

use super::{Admission, End, Guard, GuardBase, WaitProgress};
use crate::{classify::Outcome, clock::Now};
use std::{task::Context, time::Duration};

/// `None` admits every call, and learns nothing: a guard that is switched off by configuration
/// leaves the stack's type as it is.
impl<G: GuardBase> GuardBase for Option<G> {
    /// `None` for a call that no guard was asked about.
    type Permit = Option<G::Permit>;
    type Wait = G::Wait;

    #[inline]
    fn settle(&self, permit: Self::Permit, end: End, now: &Now) {
        if let (Some(guard), Some(permit)) = (self, permit) {
            guard.settle(permit, end, now);
        }
    }

    #[inline]
    fn on_pending(&self, permit: &mut Self::Permit, now: &Now) {
        if let (Some(guard), Some(permit)) = (self, permit) {
            guard.on_pending(permit, now);
        }
    }

    #[inline]
    fn on_wait_begin(&self, permit: &mut Self::Permit, now: &Now) {
        if let (Some(guard), Some(permit)) = (self, permit) {
            guard.on_wait_begin(permit, now);
        }
    }

    #[inline]
    fn on_wait_end(&self, permit: &mut Self::Permit, waited: Duration, now: &Now) {
        if let (Some(guard), Some(permit)) = (self, permit) {
            guard.on_wait_end(permit, waited, now);
        }
    }

    #[inline]
    fn on_answer(&self, permit: &mut Self::Permit, outcome: Outcome, now: &Now) {
        if let (Some(guard), Some(permit)) = (self, permit) {
            guard.on_answer(permit, outcome, now);
        }
    }

    #[inline]
    fn abandon(&self, wait: G::Wait, now: &Now) {
        match self {
            Some(guard) => guard.abandon(wait, now),
            None => debug_assert!(false, "nobody waits for no guard"),
        }
    }

    fn ready_failed(&self, now: &Now) {
        if let Some(guard) = self {
            guard.ready_failed(now);
        }
    }

    #[inline]
    fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        self.as_ref()
            .is_some_and(|guard| guard.poll_closed(cx, now))
    }
}

impl<Req, G: Guard<Req>> Guard<Req> for Option<G> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Self::Permit, G::Wait> {
        let Some(guard) = self else {
            return Admission::Admitted(None);
        };
        match guard.admit(req, now) {
            Admission::Admitted(permit) => Admission::Admitted(Some(permit)),
            Admission::Refused(rejected) => Admission::Refused(rejected),
            Admission::Wait(wait) => Admission::Wait(wait),
        }
    }

    fn poll_wait(
        &self,
        wait: &mut G::Wait,
        req: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Self::Permit> {
        let Some(guard) = self else {
            debug_assert!(false, "nobody waits for no guard");
            return WaitProgress::Admitted(None);
        };
        match guard.poll_wait(wait, req, cx, now) {
            WaitProgress::Admitted(permit) => WaitProgress::Admitted(Some(permit)),
            WaitProgress::Refused(rejected) => WaitProgress::Refused(rejected),
            WaitProgress::Pending(until) => WaitProgress::Pending(until),
        }
    }
}
