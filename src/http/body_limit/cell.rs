//! A body that a timer can take away.

use super::{BodyCut, BodyLimit, cut::LimitOwner};
use crate::{clock::Time, context::Limiter, error::cut_off, shared::lock, timeout::Deadline};
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

    fn limiter(&self, limit: BodyLimit) -> Limiter {
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
/// 2. Once `cut` is set, the body is dropped by whoever has it: by the timer, if it is in the slot,
///    and else by its reader, when that puts it back.
/// 3. The lock is not held while the body is polled or dropped.
pub(super) struct BodyCell<B> {
    slot: Mutex<Slot<B>>,
    pub(super) ends: BodyEnds,
    owner: LimitOwner,
}

struct Slot<B> {
    body: Option<Pin<Box<B>>>,
    cut: Option<BodyCut>,
    /// Who waits for the next frame.
    reader: Option<Waker>,
}

impl<B> BodyCell<B> {
    pub(super) fn new(body: B, ends: BodyEnds, owner: LimitOwner) -> Self {
        let slot = Mutex::new(Slot {
            body: Some(Box::pin(body)),
            cut: None,
            reader: None,
        });
        Self { slot, ends, owner }
    }

    /// Takes the body out for one poll; or returns what has cut it off.
    pub(super) fn take(&self) -> Result<Option<Pin<Box<B>>>, BodyCut> {
        let mut slot = lock(&self.slot);
        match slot.cut {
            Some(cut) => Err(cut),
            None => Ok(slot.body.take()),
        }
    }

    /// Puts the body back after a poll, and wakes this reader if it is cut off; unless that has
    /// happened meanwhile.
    pub(super) fn put_back(
        &self,
        body: Pin<Box<B>>,
        reader: Option<&Waker>,
    ) -> Result<(), BodyCut> {
        let mut slot = lock(&self.slot);
        if let Some(cut) = slot.cut {
            drop(slot);
            self.drop_cut(body, cut.limit());
            return Err(cut);
        }
        debug_assert!(slot.body.is_none(), "a body has one reader");
        slot.body = Some(body);
        if let Some(reader) = reader {
            match &mut slot.reader {
                Some(known) => known.clone_from(reader),
                known => *known = Some(reader.clone()),
            }
        }
        Ok(())
    }

    /// Cuts the body off because of this limit: the one in the reader's hands, or the one in the
    /// slot.
    #[cold]
    pub(super) fn cut(&self, limit: BodyLimit, taken: Option<Pin<Box<B>>>) -> BodyCut {
        let mut slot = lock(&self.slot);
        let cut = match slot.cut {
            Some(cut) => cut,
            None => *slot.cut.insert(self.owner.cut(limit, self.ends.deadline)),
        };
        let (body, reader) = (taken.or_else(|| slot.body.take()), slot.reader.take());
        drop(slot);
        if let Some(body) = body {
            self.drop_cut(body, cut.limit());
        }
        if let Some(reader) = reader {
            reader.wake();
        }
        cut
    }

    /// Returns the limit that the body has missed by now, if it has not ended.
    pub(super) fn missed(&self, now: Time) -> Option<BodyLimit> {
        (self.ends.until() <= now).then(|| self.ends.limit())
    }

    /// Drops the body, and with it the permits that it holds.
    #[cold]
    fn drop_cut(&self, body: Pin<Box<B>>, limit: BodyLimit) {
        cut_off(self.ends.limiter(limit), || drop(body));
    }

    /// Lets go of a body that has ended, or whose reader has gone.
    pub(super) fn clear(&self) -> Option<Pin<Box<B>>> {
        let mut slot = lock(&self.slot);
        slot.reader = None;
        slot.body.take()
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
                self.cut(limit, None);
            }
        }));
    }
}
