//! The first mode: a call without a permit is refused at once.

use super::{LoadShed, Permit};
use crate::{
    Now,
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never},
    shared::thread_index,
};
use std::{task::Context, time::Duration};

impl<P: Send + Sync + 'static> LoadShed<P> {
    /// Returns a tower layer that rejects a call at once if it finds no permit. It still has to be
    /// told what responses mean: by `.http()`, `.grpc()` or [`GuardLayer::classify`].
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}

impl<P> LoadShed<P> {
    guard_runs! {
        /// Runs `op` if there is a permit for it now, and rejects the call otherwise.
        run
    }
    guard_runs!(classify);
}

impl<P> GuardBase for LoadShed<P> {
    type Permit = Permit;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(&permit, end, now);
    }
    #[inline]
    fn on_pending(&self, permit: &mut Permit, now: &Now) {
        self.0.on_pending(permit, now);
    }
    fn on_wait_begin(&self, permit: &mut Permit, now: &Now) {
        self.0.on_wait_begin(permit, now);
    }
    fn on_wait_end(&self, permit: &mut Permit, waited: Duration, now: &Now) {
        self.0.on_wait_end(permit, waited, now);
    }
    fn poll_closed(&self, _: &mut Context<'_>, _: &Now) -> bool {
        // An inner service that is not ready says nothing about the load: only the limit does. Who
        // asked while there was a permit left is not woken when the last one is taken; it would
        // find its service not ready, and waits for that.
        self.0.gate.is_full()
    }
}

impl<Req, P> Guard<Req> for LoadShed<P> {
    #[inline]
    fn admit(&self, _: &Req, now: &Now) -> Admission<Permit, Never> {
        if let Err(late) = self.0.on_time(now) {
            return Admission::Refused(late);
        }
        match self.0.enter(thread_index(), now) {
            Some(permit) => Admission::Admitted(permit),
            None => Admission::Refused(self.0.refuse(now)),
        }
    }
}
