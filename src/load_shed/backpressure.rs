//! The third mode: callers are held back in `poll_ready` until there is a permit.

use super::{
    Equal, Inner, LoadShed, Permit, QueueWait,
    gate::Enqueued,
    queue::{Ticket, Turn},
};
use crate::{
    Now,
    guard::{End, GuardBase, Reserve, ReserveLayer},
    shared::thread_index,
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A [`LoadShed`] that holds its callers back in `poll_ready`, made by [`LoadShed::backpressure`].
///
/// # Clone
/// Clones are one load shed: they share its limit, and the line of waiting callers.
pub struct Backpressure<P = Equal>(Arc<Inner<P>>);

impl<P> LoadShed<P> {
    /// Returns a handle on this limit whose services are not ready while there is no permit.
    /// Callers wait in order, for as long as it takes, unless a timeout or a deadline layer outside
    /// of this one ends the wait.
    #[doc(alias("concurrency_limit", "ConcurrencyLimit", "poll_ready"))]
    pub fn backpressure(&self) -> Backpressure<P> {
        Backpressure(Arc::clone(&self.0))
    }
}

impl<P: Send + Sync + 'static> Backpressure<P> {
    /// Returns a tower layer whose services are not ready while there is no permit. It still has to
    /// be told what responses mean: by `.http()`, `.grpc()` or [`ReserveLayer::classify`].
    pub fn layer(&self) -> ReserveLayer<Self> {
        ReserveLayer::new(self.clone())
    }
}

impl<P> GuardBase for Backpressure<P> {
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

impl<P> Reserve for Backpressure<P> {
    #[inline]
    fn poll_reserve(
        &self,
        wait: &mut Option<QueueWait>,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> Poll<Permit> {
        match wait {
            None => match self.0.gate.enter(thread_index(), || now.get()) {
                Some(count) => Poll::Ready(self.0.reserved(count)),
                None => self.line_up(wait, cx, now),
            },
            Some(place) => {
                let turn = self.0.gate.poll(&place.ticket, cx.waker(), now.get());
                self.turn(turn, wait, cx)
            }
        }
    }
}

impl<P> Backpressure<P> {
    /// Joins the line of those who reserve.
    #[cold]
    fn line_up(&self, wait: &mut Option<QueueWait>, cx: &Context<'_>, now: &Now) -> Poll<Permit> {
        self.0.look(now);
        let joined = self.0.gate.reserve(thread_index(), now.get());
        let ticket: Ticket = match joined {
            Enqueued::Admitted => return Poll::Ready(self.0.held_back()),
            Enqueued::Waiting(ticket) => ticket,
            Enqueued::Full => return self.ask_again(cx),
        };
        let turn = self.0.gate.poll(&ticket, cx.waker(), now.get());
        *wait = Some(QueueWait {
            ticket,
            deadline: None,
        });
        self.turn(turn, wait, cx)
    }

    /// Returns the permit if it is this one's turn.
    fn turn(&self, turn: Turn, wait: &mut Option<QueueWait>, cx: &Context<'_>) -> Poll<Permit> {
        match turn {
            Turn::Waiting(_) => Poll::Pending,
            Turn::Granted => {
                *wait = None;
                Poll::Ready(self.0.held_back())
            }
            Turn::Out(_) => {
                *wait = None;
                self.ask_again(cx)
            }
        }
    }

    /// Has the caller ask once more. The line of those who reserve has no end, and nobody is put
    /// out of it; were that otherwise, this would be the answer.
    #[cold]
    fn ask_again(&self, cx: &Context<'_>) -> Poll<Permit> {
        debug_assert!(false, "a reservation was refused or put out");
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P> Clone for Backpressure<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for Backpressure<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backpressure").field(&self.0).finish()
    }
}
