//! The second mode: calls wait in a bounded queue, as futures.

use super::{
    Equal, Inner, LoadShed, Permit, Prioritize, QueueWait, gate::Enqueued, priority::Threshold,
    queue::Turn,
};
use crate::{
    Criticality, Now, Time,
    guard::{Admission, End, Guard, GuardBase, WaitLayer, WaitProgress},
    shared::thread_index,
};
use std::{fmt, sync::Arc, task::Context, time::Duration};

/// A [`LoadShed`] whose calls wait in its queue, made by [`LoadShed::queued`].
///
/// # Clone
/// Clones are one load shed: they share its limit, and its queue.
pub struct Queued<P = Equal>(Arc<Inner<P>>);

impl<P> LoadShed<P> {
    /// Returns a handle on this limit whose calls wait in a queue if they find no permit. They wait
    /// in order; if the queue is overloaded, the newest go first, and all wait for a shorter time.
    #[doc(alias("adaptive_lifo", "codel", "max_wait_duration"))]
    pub fn queued(&self) -> Queued<P> {
        Queued(Arc::clone(&self.0))
    }
}

impl<P: Send + Sync + 'static> Queued<P> {
    /// Returns a tower layer whose calls wait for a permit. It still has to be told what responses
    /// mean: by `.http()`, `.grpc()` or [`WaitLayer::classify`]. The inner service must be `Clone`,
    /// and is cloned for each call that waits.
    pub fn layer(&self) -> WaitLayer<Self> {
        WaitLayer::new(self.clone())
    }
}

impl<P> Queued<P> {
    guard_runs! {
        /// Runs `op` as soon as there is a permit for it, or not at all if that takes too long.
        ///
        /// It has no request from which a priority could be read: with priorities use
        /// [`run_for`](Self::run_for).
        run
    }
    guard_runs!(classify);
}

impl<P> GuardBase for Queued<P> {
    type Permit = Permit;
    type Wait = QueueWait;

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
    fn abandon(&self, place: QueueWait, now: &Now) {
        self.0
            .gate
            .leave(&place.ticket, thread_index(), || now.get());
    }
}

impl<Req, P: Prioritize<Req>> Guard<Req> for Queued<P> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Permit, QueueWait> {
        let deadline = match self.0.on_time(now) {
            Ok(deadline) => deadline,
            Err(late) => return Admission::Refused(late),
        };
        if let Some(threshold) = &self.0.threshold {
            return self.admit_ranked(threshold, req, deadline, now);
        }
        match self.0.enter(thread_index(), now) {
            Some(permit) => Admission::Admitted(permit),
            None => self.join(Criticality::default(), deadline, now),
        }
    }

    fn poll_wait(
        &self,
        place: &mut QueueWait,
        _: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Permit> {
        match self.0.gate.poll(&place.ticket, cx.waker(), now.get()) {
            // Between the grant and this poll the deadline may have passed.
            Turn::Granted if place.deadline.is_some_and(|d| d <= now.get()) => {
                self.0.gate.exit(thread_index(), || now.get());
                WaitProgress::Refused(self.0.late(place.deadline))
            }
            Turn::Granted => WaitProgress::Admitted(self.started(now)),
            Turn::Out(why) => WaitProgress::Refused(self.0.out(why, place.deadline)),
            Turn::Waiting(until) => WaitProgress::Pending(Some(until)),
        }
    }
}

impl<P> Queued<P> {
    /// Decides about a request by its priority, once there is more than there is room for.
    fn admit_ranked<Req>(
        &self,
        threshold: &Threshold,
        req: &Req,
        deadline: Option<Time>,
        now: &Now,
    ) -> Admission<Permit, QueueWait>
    where
        P: Prioritize<Req>,
    {
        let slot = thread_index();
        if !threshold.is_pressed() {
            if let Some(permit) = self.0.enter(slot, now) {
                return Admission::Admitted(permit);
            }
            threshold.press(now.get());
        }
        // The application's code: it runs while nothing is held.
        let priority = self.0.priority.priority(req);
        // Every arrival counts, whatever becomes of it.
        let worth_it = threshold.arrives(priority, self.0.dice.unit(), now.get());
        if let Some(permit) = self.0.enter(slot, now) {
            threshold.starts();
            return Admission::Admitted(permit);
        }
        threshold.press(now.get());
        match worth_it {
            true => self.join(priority.class(), deadline, now),
            false => Admission::Refused(self.0.refuse(now)),
        }
    }

    /// Joins the queue, if there is a place.
    #[cold]
    fn join(
        &self,
        class: Criticality,
        deadline: Option<Time>,
        now: &Now,
    ) -> Admission<Permit, QueueWait> {
        self.0.look(now);
        match (self.0.gate).join(class as usize, deadline, thread_index(), now.get()) {
            Enqueued::Admitted => Admission::Admitted(self.started(now)),
            Enqueued::Waiting(ticket) => Admission::Wait(QueueWait { ticket, deadline }),
            Enqueued::Full => Admission::Refused(self.0.refuse(now)),
        }
    }

    /// Returns the permit of a call that had to wait for it.
    fn started(&self, now: &Now) -> Permit {
        if let Some(threshold) = &self.0.threshold
            && threshold.is_pressed()
        {
            threshold.starts();
        }
        self.0.waited(now)
    }
}

impl<P> Clone for Queued<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for Queued<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queued").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, context, context::Limiter};
    use std::task::Waker;

    #[test]
    fn whose_deadline_has_passed_is_not_asked_of_another_call() {
        let now = Now::lazy().get();
        let deadline = now.after(Duration::from_secs(1));
        let of = |deadline, limiter| {
            let mut context = context::current();
            (context.deadline, context.limiter) = (Some(deadline), limiter);
            context
        };
        let (caller, operator) = (Limiter::CALLER, Limiter::UNKNOWN);
        let other = now.after(Duration::from_secs(3));
        for (began_in, polled_in, by_caller) in [
            (of(deadline, caller), of(deadline, caller), true),
            (of(deadline, operator), of(other, caller), false),
            (of(deadline, caller), of(other, operator), false),
        ] {
            let builder = LoadShed::builder("db").fixed(1).queue(1);
            let queue = builder.wait(Duration::from_secs(2)).build().unwrap();
            let queue = queue.queued();
            let admit = || queue.admit(&(), &Now::at(now));
            let Admission::Admitted(_running) = admit() else {
                panic!("there is room for one");
            };
            let Admission::Wait(mut wait) = began_in.enter(admit) else {
                panic!("there is no room for another one");
            };
            let late = Now::at(deadline.after(Duration::from_millis(1)));
            let mut cx = Context::from_waker(Waker::noop());
            let polled = polled_in.enter(|| queue.poll_wait(&mut wait, &(), &mut cx, &late));
            let WaitProgress::Refused(rejected) = polled else {
                panic!("{polled:?}");
            };
            assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
            assert_eq!(rejected.is_callers_limit(), by_caller);
        }
    }
}
