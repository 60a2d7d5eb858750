//! A body that a timer can take away.

use super::{BodyCut, BodyLimit, cut::LimitOwner};
use crate::{
    clock::Time,
    context::{Context, Limiter},
    error::cut_off,
    shared::lock,
    timeout::Deadline,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Wake, Waker},
    time::Duration,
};

/// When a body has to have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyEnds {
    /// The deadline of the call; at the end of time, if there is none.
    pub(super) deadline: Deadline,
    /// The end of the attempt's timeout, if that holds for the body, and how long that was.
    pub(super) whole: Option<(Time, Duration)>,
}

impl BodyEnds {
    pub(super) fn until(&self) -> Time {
        let deadline = self.deadline.time();
        self.whole
            .map_or(deadline, |(whole, _)| whole.min(deadline))
    }

    fn limit(&self) -> BodyLimit {
        match self.deadline.time() <= self.until() {
            true => BodyLimit::Deadline,
            false => BodyLimit::Whole,
        }
    }

    /// Returns whose limit this one is.
    pub(super) fn limiter(&self, limit: BodyLimit) -> Limiter {
        match (limit, self.whole) {
            (BodyLimit::Deadline, _) => self.deadline.limiter(),
            (BodyLimit::Whole, Some((_, limit))) => Limiter::operator(limit),
            _ => Limiter::UNKNOWN,
        }
    }
}

/// A body under limits, shared by whoever reads it and the timer of its end. The cell itself is
/// what that timer wakes.
///
/// # Invariants
/// 1. The body is in the slot, or in the hands of its reader for the length of one poll, or gone.
/// 2. A body that has missed a limit is cut off, which counts, by whoever has it: by the timer, if
///    it is in the slot, and else by its reader, when that puts it back. One that has ended in the
///    reader's hands has missed nothing.
/// 3. The lock is not held while the body is polled or dropped, nor while a waker is cloned,
///    dropped or woken: all of these may run code of the application, which may come back here.
/// 4. A body is dropped in the context of its call, on whatever thread that happens.
pub(super) struct BodyCell<B> {
    slot: Mutex<Slot<B>>,
    pub(super) ends: BodyEnds,
    owner: LimitOwner,
    context: Context,
}

struct Slot<B> {
    body: Option<WaitingBody<B>>,
    /// The limit that the timer has found missed while the body was in the reader's hands.
    missed: Option<BodyLimit>,
    cut: Option<BodyCut>,
}

/// A body, and whoever waits for its next frame. Its reader takes out both, so that the waker is
/// his to change while nobody else can see it.
pub(super) struct WaitingBody<B> {
    pub(super) body: Pin<Box<B>>,
    reader: Option<Waker>,
}

impl<B> WaitingBody<B> {
    /// Sets who is woken if the body is cut off.
    pub(super) fn wait(&mut self, reader: &Waker) {
        match &mut self.reader {
            Some(known) => known.clone_from(reader),
            known => *known = Some(reader.clone()),
        }
    }
}

impl<B> BodyCell<B> {
    pub(super) fn new(body: B, ends: BodyEnds, owner: LimitOwner, context: Context) -> Self {
        let body = WaitingBody {
            body: Box::pin(body),
            reader: None,
        };
        Self {
            slot: Mutex::new(Slot {
                body: Some(body),
                missed: None,
                cut: None,
            }),
            ends,
            owner,
            context,
        }
    }

    /// Takes the body out for one poll; or returns what has cut it off.
    pub(super) fn take(&self) -> Result<Option<WaitingBody<B>>, BodyCut> {
        let mut slot = lock(&self.slot);
        match slot.cut {
            Some(cut) => Err(cut),
            None => Ok(slot.body.take()),
        }
    }

    /// Puts the body back after a poll, unless it has missed a limit meanwhile, and is cut off.
    pub(super) fn put_back(&self, body: WaitingBody<B>) -> Result<(), BodyCut> {
        let mut slot = lock(&self.slot);
        debug_assert!(slot.body.is_none(), "a body has one reader");
        if let Some(limit) = slot.missed {
            drop(slot);
            return Err(self.cut(limit, body));
        }
        slot.body = Some(body);
        Ok(())
    }

    /// Cuts off the body in the reader's hands because of this limit.
    #[cold]
    pub(super) fn cut(&self, limit: BodyLimit, taken: WaitingBody<B>) -> BodyCut {
        let cut = self.owner.cut(limit, self.ends.deadline);
        lock(&self.slot).cut = Some(cut);
        self.drop_cut(taken.body, limit);
        cut
    }

    /// Cuts off the body in the slot because of this limit, and wakes its reader; or leaves that to
    /// the reader who has it in his hands.
    #[cold]
    pub(super) fn expire(&self, limit: BodyLimit) {
        let mut slot = lock(&self.slot);
        let Some(WaitingBody { body, reader }) = slot.body.take() else {
            slot.missed = Some(limit);
            return;
        };
        slot.cut = Some(self.owner.cut(limit, self.ends.deadline));
        drop(slot);
        // Also if the drop of the body panics: nothing else wakes its reader.
        let _wake = WakeOnDrop(reader);
        self.drop_cut(body, limit);
    }

    /// Returns the limit that the body has missed by now, if it has not ended.
    pub(super) fn missed(&self, now: Time) -> Option<BodyLimit> {
        (self.ends.until() <= now).then(|| self.ends.limit())
    }

    /// Drops the body, and with it the permits that it holds.
    #[cold]
    fn drop_cut(&self, body: Pin<Box<B>>, limit: BodyLimit) {
        let drop = || self.context.enter(|| drop(body));
        cut_off(self.ends.limiter(limit), drop);
    }

    /// Lets go of a body that has ended, or whose reader has gone.
    pub(super) fn clear(&self) {
        let waiting = lock(&self.slot).body.take();
        self.context.enter(|| drop(waiting));
    }
}

/// Wakes a reader when it is dropped.
struct WakeOnDrop(Option<Waker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl<B: Send> Wake for BodyCell<B> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Called by the timer, on whatever thread that runs.
    fn wake_by_ref(self: &Arc<Self>) {
        // A panic in the drop of a body belongs to nobody here, least of all to the runtime's
        // timers. The permits that the body held have been settled on the way.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if let Some(limit) = self.missed(Time::now()) {
                self.expire(limit);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeout::DeadlineLayer;
    use std::sync::{
        Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    /// Whether nobody holds the lock of the cell, asked by code of the application.
    struct Asks(Weak<dyn Free + Send + Sync>);

    trait Free {
        fn is_free(&self) -> bool;
    }

    impl<B> Free for BodyCell<B> {
        fn is_free(&self) -> bool {
            self.slot.try_lock().is_ok()
        }
    }

    static FREE: AtomicUsize = AtomicUsize::new(0);

    impl Drop for Asks {
        fn drop(&mut self) {
            if let Some(cell) = self.0.upgrade() {
                assert!(cell.is_free(), "dropped under the lock");
                FREE.fetch_add(1, Relaxed);
            }
        }
    }

    impl Wake for Asks {
        fn wake(self: Arc<Self>) {}
    }

    struct PanicsInDrop(bool);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            assert!(!self.0, "on purpose");
        }
    }

    fn late<B>(body: B) -> Arc<BodyCell<B>> {
        let ends = BodyEnds {
            deadline: Deadline::at(Time(0)),
            whole: None,
        };
        let owner = LimitOwner::Deadline(DeadlineLayer::within("all", Duration::MAX));
        let context = crate::context::current();
        Arc::new(BodyCell::new(body, ends, owner, context))
    }

    fn waker(cell: &Arc<BodyCell<PanicsInDrop>>) -> Waker {
        let cell: Weak<BodyCell<PanicsInDrop>> = Arc::downgrade(cell);
        Waker::from(Arc::new(Asks(cell)))
    }

    #[test]
    fn wakers_are_dropped_while_nobody_holds_the_lock() {
        let cell = late(PanicsInDrop(false));
        // Replaced by another one twice, and dropped with the reader, with its clone gone first.
        for _ in 0..3 {
            let mut waiting = cell.take().unwrap().unwrap();
            waiting.wait(&waker(&cell));
            cell.put_back(waiting).unwrap();
        }
        cell.clear();
        assert_eq!(FREE.load(Relaxed), 3);
        // Cut off in the slot, and in the hands of its reader.
        for taken in [true, false] {
            let cell = late(PanicsInDrop(false));
            let mut waiting = cell.take().unwrap().unwrap();
            waiting.wait(&waker(&cell));
            if !taken {
                cell.put_back(waiting).unwrap();
                cell.wake_by_ref();
            } else {
                cell.wake_by_ref();
                assert!(cell.put_back(waiting).is_err());
            }
        }
        assert_eq!(FREE.load(Relaxed), 5);
    }

    #[test]
    fn a_body_that_ends_in_the_hands_of_its_reader_has_missed_nothing() {
        for (ends, exceeded) in [(true, 0), (false, 1)] {
            let cell = late(PanicsInDrop(false));
            let LimitOwner::Deadline(layer) = &cell.owner else {
                panic!("not by its deadline");
            };
            let waiting = cell.take().unwrap().unwrap();
            cell.wake_by_ref();
            assert_eq!(layer.snapshot().exceeded_total, 0);
            match ends {
                true => drop(waiting),
                false => assert!(cell.put_back(waiting).is_err()),
            }
            cell.clear();
            // The timer has nothing to find any more.
            cell.wake_by_ref();
            assert_eq!(layer.snapshot().exceeded_total, exceeded);
        }
    }

    #[test]
    fn the_reader_of_a_body_that_panics_while_it_is_cut_off_is_woken() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let cell = late(PanicsInDrop(true));
        let mut waiting = cell.take().unwrap().unwrap();
        waiting.wait(&Waker::from(Arc::clone(&woken)));
        cell.put_back(waiting).unwrap();
        cell.wake_by_ref();
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(cell.take().is_err());
    }
}
