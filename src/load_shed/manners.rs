//! Three ways to treat a call that finds no permit.

use super::{
    Inner, LoadShed, Permit, Prioritize,
    gate::Joined,
    queue::{self, Turn},
};
use crate::{
    Now, Time,
    error::FromRejected,
    guard::{
        self, Admission, End, Guard, GuardLayer, Never, Policy, Reserve, ReserveLayer, Step,
        WaitLayer,
    },
    shared::slot,
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

/// A [`LoadShed`] whose calls wait in its queue; see [`LoadShed::queued`].
pub struct Queued<P = super::Equal>(Arc<Inner<P>>);

/// A [`LoadShed`] that holds its callers back in `poll_ready`; see [`LoadShed::backpressure`].
pub struct Backpressure<P = super::Equal>(Arc<Inner<P>>);

/// A place in the queue of a [`LoadShed`].
#[derive(Debug)]
pub struct Place {
    ticket: queue::Ticket,
    deadline: Option<Time>,
}

impl<P> LoadShed<P> {
    /// Its calls wait in its queue, in order, and for no longer than is good for them.
    pub fn queued(&self) -> Queued<P> {
        Queued(Arc::clone(&self.0))
    }

    /// It holds its callers back in `poll_ready`, for as long as it takes.
    pub fn backpressure(&self) -> Backpressure<P> {
        Backpressure(Arc::clone(&self.0))
    }
}

impl<P: Send + Sync + 'static> LoadShed<P> {
    /// This load shed as a tower layer that rejects at once.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}

impl<P> LoadShed<P> {
    /// Runs `op` if there is a permit for it now.
    ///
    /// # Errors
    /// The [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run<T, E: FromRejected>(
        &self,
        op: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        guard::run(self, &(), op).await
    }
}

impl<P: Send + Sync + 'static> Queued<P> {
    /// This load shed as a tower layer whose calls wait.
    pub fn layer(&self) -> WaitLayer<Self> {
        WaitLayer::new(self.clone())
    }
}

impl<P: Prioritize<()>> Queued<P> {
    /// Runs `op` when there is a permit for it, unless that takes too long.
    ///
    /// # Errors
    /// The [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run<T, E: FromRejected>(
        &self,
        op: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        guard::run(self, &(), op).await
    }
}

impl<P: Send + Sync + 'static> Backpressure<P> {
    /// This load shed as a tower layer that is not ready while there is no permit.
    pub fn layer(&self) -> ReserveLayer<Self> {
        ReserveLayer::new(self.clone())
    }
}

impl<P> Policy for LoadShed<P> {
    type Permit = Permit;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(&permit, end, now);
    }
    #[inline]
    fn suspended(&self, permit: &mut Permit, now: &Now) {
        self.0.suspended(permit, now);
    }
    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
    fn poll_refuses_all(&self, _: &mut Context<'_>, _: &Now) -> bool {
        self.0.gate.is_full()
    }
}

impl<Req, P> Guard<Req> for LoadShed<P> {
    #[inline]
    fn admit(&self, _: &Req, now: &Now) -> Admission<Permit, Never> {
        if let Err(late) = self.0.too_late(now) {
            return Admission::Refused(late);
        }
        match self.0.enter(now) {
            Some(permit) => Admission::Admitted(permit),
            None => Admission::Refused(self.0.refuse(now)),
        }
    }

    fn poll_wait(&self, wait: &mut Never, _: &Req, _: &mut Context<'_>, _: &Now) -> Step<Permit> {
        match *wait {}
    }
}

impl<P> Policy for Queued<P> {
    type Permit = Permit;
    type Wait = Place;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(&permit, end, now);
    }
    #[inline]
    fn suspended(&self, permit: &mut Permit, now: &Now) {
        self.0.suspended(permit, now);
    }
    fn abandon(&self, place: Place, now: &Now) {
        self.0.gate.leave(&place.ticket, slot(), || now.get());
    }
}

impl<Req, P: Prioritize<Req>> Guard<Req> for Queued<P> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Permit, Place> {
        let deadline = match self.0.too_late(now) {
            Ok(deadline) => deadline,
            Err(late) => return Admission::Refused(late),
        };
        match self.0.enter(now) {
            Some(permit) => Admission::Admitted(permit),
            None => self.join(req, deadline, now),
        }
    }

    fn poll_wait(
        &self,
        place: &mut Place,
        _: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> Step<Permit> {
        match self.0.gate.poll(&place.ticket, cx.waker(), now.get()) {
            // Between the grant and this poll the deadline may have passed.
            Turn::Granted if place.deadline.is_some_and(|d| d <= now.get()) => {
                self.0.gate.exit(slot(), || now.get());
                Step::Refused(self.0.late())
            }
            Turn::Granted => Step::Admitted(self.0.waited(now)),
            Turn::Out(why) => Step::Refused(self.0.out(why)),
            Turn::Waiting(until) => Step::Parked(Some(until)),
        }
    }
}

impl<P> Queued<P> {
    #[cold]
    fn join<Req>(&self, req: &Req, deadline: Option<Time>, now: &Now) -> Admission<Permit, Place>
    where
        P: Prioritize<Req>,
    {
        let slot = slot();
        self.0.look(slot, now);
        let class = 0;
        let _ = req;
        match self.0.gate.join(class, deadline, slot, now.get()) {
            Joined::Admitted => Admission::Admitted(self.0.waited(now)),
            Joined::Waiting(ticket) => Admission::Wait(Place { ticket, deadline }),
            Joined::Full => Admission::Refused(self.0.refuse(now)),
        }
    }
}

impl<P> Policy for Backpressure<P> {
    type Permit = Permit;
    type Wait = Place;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.0.settle(&permit, end, now);
    }
    #[inline]
    fn suspended(&self, permit: &mut Permit, now: &Now) {
        self.0.suspended(permit, now);
    }
    fn abandon(&self, place: Place, now: &Now) {
        self.0.gate.leave(&place.ticket, slot(), || now.get());
    }
}

impl<P> Reserve for Backpressure<P> {
    #[inline]
    fn poll_reserve(
        &self,
        wait: &mut Option<Place>,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> Poll<Permit> {
        match wait {
            None => match self.0.gate.enter(slot(), || now.get()) {
                Some(count) => Poll::Ready(self.0.reserved(count)),
                None => self.line_up(wait, cx, now),
            },
            Some(_) => self.poll_place(wait, cx, now),
        }
    }
}

impl<P> Backpressure<P> {
    #[cold]
    fn line_up(&self, wait: &mut Option<Place>, cx: &Context<'_>, now: &Now) -> Poll<Permit> {
        self.0.look(slot(), now);
        match self.0.gate.reserve(slot(), now.get()) {
            Joined::Admitted => return Poll::Ready(self.0.reserved(0)),
            Joined::Waiting(ticket) => {
                *wait = Some(Place {
                    ticket,
                    deadline: None,
                });
            }
            // There is no end to that line; but were there one, asking again would be the answer.
            Joined::Full => {}
        }
        self.poll_place(wait, cx, now)
    }

    fn poll_place(&self, wait: &mut Option<Place>, cx: &Context<'_>, now: &Now) -> Poll<Permit> {
        let turn = wait
            .as_ref()
            .map(|place| self.0.gate.poll(&place.ticket, cx.waker(), now.get()));
        match turn {
            Some(Turn::Waiting(_)) => Poll::Pending,
            Some(Turn::Granted) => {
                *wait = None;
                Poll::Ready(self.0.reserved(0))
            }
            Some(Turn::Out(_)) | None => {
                *wait = None;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<P> Clone for Queued<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> Clone for Backpressure<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for Queued<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queued").field(&self.0).finish()
    }
}

impl<P> fmt::Debug for Backpressure<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backpressure").field(&self.0).finish()
    }
}
