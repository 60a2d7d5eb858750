//! Waiting in order for a place in the window.

use super::{
    Cost, FixedQuota, Permit, Quota, RateLimiter, Snapshot, UnitCost,
    state::Caller,
    wait_queue::{WaitQueue, WaitingCall},
    wait_queues::Departure,
};
use crate::{
    Global, Key,
    clock::{Now, Time},
    context,
    guard::{Admission, End, Guard, GuardBase, OnResponse, WaitLayer, WaitProgress},
};
use std::{fmt, task::Context, time::Duration};

/// A [`RateLimiter`] whose calls wait in order instead of being refused, up to a maximum.
///
/// It is made by [`RateLimiter::wait_up_to`], and is a cheap handle on the same limit. All handles
/// of one limiter share one queue per key. No call overtakes that queue: while it is not empty,
/// calls with the same key through the limiter itself are refused. (In networking, waiting is
/// called traffic shaping, and refusing is called policing.)
///
/// A call whose turn it is has to be polled: one that is not, because it lies beside a busy branch
/// of a `select!`, is passed by the others after 100 ms, and is the first again when it is polled.
/// One whose wait is over holds up nobody.
///
/// A call that waits takes a short lock at every poll, and memory for its place in the queue. A
/// call that is admitted at once costs as much as through the limiter itself.
pub struct WaitingLimiter<K = Global, C = UnitCost, Q = FixedQuota> {
    limiter: RateLimiter<K, C, Q>,
    max: Duration,
}

/// What a call holds while it waits for a [`WaitingLimiter`]: its place in the queue.
///
/// It is plain data, and dropping it leaves the place taken. [`GuardBase::abandon`] gives it up.
#[derive(Debug)]
pub struct QuotaWait {
    by: Caller,
    id: u64,
    cost: u32,
    /// The wait ends here at the latest.
    until: Time,
}

impl<K, C, Q> WaitingLimiter<K, C, Q> {
    pub(super) fn new(limiter: RateLimiter<K, C, Q>, max: Duration) -> Self {
        Self { limiter, max }
    }

    /// Returns the limiter's name, which rejections carry.
    pub fn name(&self) -> &'static str {
        self.limiter.name()
    }

    /// Returns the limiter itself, whose calls do not wait.
    pub fn limiter(&self) -> &RateLimiter<K, C, Q> {
        &self.limiter
    }

    /// Returns what the limiter has done so far, with the calls through all its handles counted
    /// together.
    pub fn snapshot(&self) -> Snapshot {
        self.limiter.snapshot()
    }

    guard_runs! {
        /// Runs `op` as soon as the limit allows it, or not at all if the wait would be too long.
        ///
        /// It has no request: with a key or a cost use [`run_for`](Self::run_for).
        run
    }

    #[cold]
    fn join(&self, by: Caller, cost: u32, now: Time) -> Admission<Permit, QuotaWait> {
        let (inner, key) = (self.limiter.inner(), by.key);
        let mut queues = inner.queues.lock(key);
        queues.announce();
        let forecast = || inner.forecast(&by, now);
        let mut passed = queues.come_by(key, None, now, forecast);
        let nobody = WaitQueue::default();
        let queue = queues.queue(key).unwrap_or(&nobody);
        let taken = if queue.is_empty() {
            inner.take(&by, cost, now)
        } else {
            Err(queue.admits_at(passed.forecast(forecast), cost, now))
        };
        let admission = match taken {
            Ok(at) => {
                queues.withdraw();
                Admission::Admitted(Permit { key, at, cost })
            }
            Err(admitted_at) => {
                let latest = now.after(self.max);
                let deadline = context::current().deadline;
                let until = deadline.map_or(latest, |deadline| latest.min(deadline));
                match admitted_at.filter(|at| *at <= until.0) {
                    Some(expected) => {
                        let call = WaitingCall::new(cost, until, Time(expected));
                        let id = queues.join(key, call);
                        Admission::Wait(QuotaWait {
                            by,
                            id,
                            cost,
                            until,
                        })
                    }
                    None => {
                        queues.withdraw();
                        Admission::Refused(inner.refuse(admitted_at, now))
                    }
                }
            }
        };
        drop(queues);
        passed.wake();
        admission
    }

    fn poll(&self, wait: &QuotaWait, cx: &mut Context<'_>, now: Time) -> WaitProgress<Permit> {
        let inner = self.limiter.inner();
        let &QuotaWait { by, id, cost, .. } = wait;
        let key = by.key;
        // A waker's clone is the application's code, and not for under the lock.
        let waker = cx.waker().clone();
        let mut queues = inner.queues.lock(key);
        let forecast = || inner.forecast(&by, now);
        let mut passed = queues.come_by(key, Some(id), now, forecast);
        let mut left = Departure::default();
        let (until, ended): (Time, Option<Option<u64>>) = if queues.is_first(key, id) {
            match inner.take(&by, cost, now) {
                // Waiting => admitted
                Ok(at) => {
                    left = queues.leave(key, id, now);
                    drop(queues);
                    passed.wake();
                    left.wake_next();
                    return WaitProgress::Admitted(Permit { key, at, cost });
                }
                Err(Some(at)) if at <= wait.until.0 && now < wait.until => {
                    queues.set_turn(key, id, Time(at));
                    (Time(at), None)
                }
                Err(at) => (now, Some(at)),
            }
        } else if now >= wait.until || !queues.is_waiting(key, id) {
            let nobody = WaitQueue::default();
            let queue = queues.queue(key).unwrap_or(&nobody);
            let at = queue.admits_at(passed.forecast(forecast), cost, now);
            (now, Some(at))
        } else {
            // Not woken before it is the first, except when it should have been let in long since,
            // and at the end of its own wait: the first may be held up by a task that does not poll
            // it.
            (wait.until.min(queues.look_at(key, id, now)), None)
        };
        let former = match ended {
            // Waiting => refused
            Some(_) => {
                left = queues.leave(key, id, now);
                None
            }
            None => queues.set_waker(key, id, waker),
        };
        drop(queues);
        drop(former);
        passed.wake();
        left.wake_next();
        match ended {
            Some(at) => WaitProgress::Refused(inner.refuse(at, now)),
            None => WaitProgress::Pending((until.0 < u64::MAX).then_some(until)),
        }
    }
}

impl<K, C, Q> WaitingLimiter<K, C, Q>
where
    Self: Send + Sync + 'static,
{
    /// Returns a tower layer whose calls wait for this limit. All layers of one limiter, waiting or
    /// not, share it.
    ///
    /// The inner service must be [`Clone`]: a call that waits needs one of its own to call later.
    pub fn layer(&self) -> WaitLayer<Self, OnResponse> {
        // It learns nothing from how calls end, so nobody need say what responses mean.
        WaitLayer::settling(self.clone(), OnResponse::default())
    }
}

impl<K, C, Q> GuardBase for WaitingLimiter<K, C, Q> {
    type Permit = Permit;
    type Wait = QuotaWait;

    #[inline]
    fn settle(&self, permit: Permit, end: End, now: &Now) {
        self.limiter.settle(permit, end, now);
    }

    fn abandon(&self, wait: QuotaWait, now: &Now) {
        let left: Departure = {
            let mut queues = self.limiter.inner().queues.lock(wait.by.key);
            queues.leave(wait.by.key, wait.id, now.get())
        };
        left.wake_next();
    }
}

impl<Req, K: Key<Req>, C: Cost<Req>, Q: Quota<Req>> Guard<Req> for WaitingLimiter<K, C, Q> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Permit, QuotaWait> {
        let inner = self.limiter.inner();
        let (key, cost) = inner.identify(req);
        if cost == 0 {
            inner.exempt();
            return Admission::Admitted(Permit { key, at: 0, cost });
        }
        let now = now.get();
        if inner.queues.is_empty(key)
            && let Ok(at) = inner.take_for(req, key, cost, now)
        {
            return Admission::Admitted(Permit { key, at, cost });
        }
        self.join(inner.caller_of(key, req), cost, now)
    }

    fn poll_wait(
        &self,
        wait: &mut QuotaWait,
        _: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Permit> {
        self.poll(wait, cx, now.get())
    }
}

impl<K, C, Q> Clone for WaitingLimiter<K, C, Q> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
            max: self.max,
        }
    }
}

impl<K, C, Q> fmt::Debug for WaitingLimiter<K, C, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingLimiter")
            .field("limiter", &self.limiter)
            .field("max", &self.max)
            .finish()
    }
}
