//! What all modes of one load shed share.

use super::{
    Permit, Snapshot, config::POLICY, control::LimitControl, gate::Gate, permit::Timing,
    priority::Threshold, queue::LeftBecause, stripes::MAX_LIMIT,
};
use crate::{
    InvalidConfig, Kind, Now, Rejected, Time, context, guard::End, rng::Dice, shared::thread_index,
    striped::StripedCounter,
};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

pub(super) struct Inner<P> {
    pub(super) name: &'static str,
    /// The rejection of a call for which there was no permit.
    pub(super) full: Rejected,
    pub(super) gate: Gate,
    /// `None`: the limit is fixed.
    pub(super) control: Option<LimitControl>,
    /// Calls rejected on arrival.
    pub(super) rejected: StripedCounter,
    /// Calls whose deadline had passed when they came, or when they were let in.
    pub(super) late: AtomicU64,
    pub(super) priority: P,
    /// `None`: all requests matter equally.
    pub(super) threshold: Option<Box<Threshold>>,
    pub(super) dice: Dice,
}

impl<P> Inner<P> {
    /// Takes a permit, if one is free.
    #[inline]
    pub(super) fn enter(&self, slot: usize, now: &Now) -> Option<Permit> {
        let count = self.gate.enter(slot, || now.get())?;
        Some(match self.control {
            None => Permit::UNTIMED,
            Some(_) => LimitControl::admitted(count, now),
        })
    }

    /// Makes the permit of a call that had to wait for it.
    pub(super) fn waited(&self, now: &Now) -> Permit {
        match self.control {
            None => Permit::UNTIMED,
            Some(_) => Permit::new(now.get(), Timing::Timed),
        }
    }

    /// Makes the permit of a call that is not there yet.
    #[inline]
    pub(super) fn reserved(&self, count: u32) -> Permit {
        match self.control {
            None => Permit::UNTIMED,
            Some(_) => LimitControl::reserved(count),
        }
    }

    /// Makes the permit of a call that is not there yet, and whose caller waited for it: like all
    /// that wait, it is timed, not sampled.
    pub(super) fn held_back(&self) -> Permit {
        match self.control {
            None => Permit::UNTIMED,
            Some(_) => Permit::HELD_BACK,
        }
    }

    #[inline]
    pub(super) fn on_pending(&self, permit: &mut Permit, now: &Now) {
        if let Some(control) = &self.control {
            control.on_pending(permit, thread_index(), now, &self.gate);
        }
    }

    #[cold]
    pub(super) fn on_wait_begin(&self, permit: &mut Permit, now: &Now) {
        if let Some(control) = &self.control {
            control.on_wait_begin(permit, thread_index(), now.get());
        }
    }

    #[cold]
    pub(super) fn on_wait_end(&self, permit: &mut Permit, waited: Duration, now: &Now) {
        if let Some(control) = &self.control {
            control.on_wait_end(permit, waited, thread_index(), now.get());
        }
    }

    #[inline]
    pub(super) fn settle(&self, permit: &Permit, end: End, now: &Now) {
        let slot = thread_index();
        let control = self.control.as_ref();
        let due = control.filter(|control| control.ended(permit, end, slot, now));
        self.gate.exit(slot, || now.get());
        if let Some(control) = due {
            control.look(&self.gate, || self.rejected.sum(), slot, now.get());
        }
    }

    /// Returns the call's deadline, if it has one; or its rejection, if that has passed.
    #[inline]
    pub(super) fn on_time(&self, now: &Now) -> Result<Option<Time>, Rejected> {
        match context::current().deadline {
            Some(deadline) if deadline <= now.get() => Err(self.late(Some(deadline))),
            deadline => Ok(deadline),
        }
    }

    /// Counts and returns the rejection of a call whose deadline, which was this one, has passed.
    #[cold]
    pub(super) fn late(&self, deadline: Option<Time>) -> Rejected {
        self.late.fetch_add(1, Relaxed);
        self.out(LeftBecause::Late, deadline)
    }

    /// Counts and returns the rejection of a call that finds no permit, and no place in the queue.
    #[inline]
    pub(super) fn refuse(&self, now: &Now) -> Rejected {
        let before = self.rejected.add(1);
        // If nothing ends, rejections alone can close a window.
        if let Some(control) = &self.control
            && control.looks_at(before)
        {
            self.look(now);
        }
        self.full
    }

    /// Looks whether the window is over, though nothing ends: a call has found no permit.
    #[cold]
    pub(super) fn look(&self, now: &Now) {
        if let Some(control) = &self.control
            && control.is_due(now.get())
        {
            control.look(
                &self.gate,
                || self.rejected.sum(),
                thread_index(),
                now.get(),
            );
        }
    }

    /// Returns the rejection of a call that was waiting, until this deadline at the latest.
    pub(super) fn out(&self, why: LeftBecause, deadline: Option<Time>) -> Rejected {
        match why {
            // Asked of the context in which it is polled, so that no call has to remember it. If
            // that is another one, it does not say whose deadline this is.
            LeftBecause::Late => match context::current() {
                context if context.deadline == deadline => context.deadline_exceeded(self.name),
                _ => Rejected::new(Kind::DeadlineExceeded, self.name),
            },
            LeftBecause::Waited | LeftBecause::Evicted => self.full,
        }
    }

    /// Changes a fixed limit.
    pub(super) fn set_limit(&self, limit: usize) -> Result<(), InvalidConfig> {
        let valid = self.control.is_none() && (1..=MAX_LIMIT).contains(&limit);
        let range = "from 1 to 1,000,000, of a load shed whose limit is fixed";
        let checked = InvalidConfig::check(valid, POLICY, "limit", limit, range);
        checked.map_err(|invalid| invalid.named(self.name))?;
        self.gate.set_limit(limit);
        self.gate.attend(thread_index(), Time::now());
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let counts = self.gate.counts();
        let control = self.control.as_ref();
        Snapshot {
            name: self.name,
            limit: control.map_or(counts.limit, LimitControl::limit),
            in_flight: counts.in_flight,
            long_lived: control.map_or(0, LimitControl::long_lived),
            queued: counts.queued,
            admitted_total: counts.admitted,
            rejected_total: self.rejected.sum() + counts.lost.evicted,
            expired_total: counts.lost.waited,
            shed_share: self.threshold.as_ref().map_or(0.0, |t| t.share()),
            deadline_exceeded_total: self.late.load(Relaxed) + counts.lost.late,
        }
    }
}

impl<P> fmt::Debug for Inner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot {
            name,
            limit,
            in_flight,
            long_lived,
            queued,
            ..
        } = self.snapshot();
        f.debug_struct("LoadShed")
            .field("name", &name)
            .field("limit", &limit)
            .field("in_flight", &in_flight)
            .field("long_lived", &long_lived)
            .field("queued", &queued)
            .finish_non_exhaustive()
    }
}
