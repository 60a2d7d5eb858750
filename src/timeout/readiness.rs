//! Waiting for a service to be ready, but not for ever.
//!
//! tower asks for readiness before there is a request, so there is no call yet that could be cut
//! off. A service whose inner one is not ready when the time is up says that it is ready, and
//! answers the call that follows with a rejection. The inner service, which is not ready, is not
//! called.

use super::Deadline;
use crate::{
    clock::Time,
    context::Limiter,
    error::{cut_off, note_wait},
    guard::poll_until,
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// How long a service has been waited for, before the call that it is waited for.
///
/// It costs a service that is ready one look, and is made only for one that is not.
///
/// # Invariants
/// 1. Whoever polls is answered within the limit, and by the deadline of the context that it polls
///    in. The limit counts from the first poll that found the service not ready.
/// 2. A wait that was given up, and is taken up again later than twice the limit after it began,
///    begins anew: what it knew is out of date.
/// 3. The call that follows takes the wait with it: [`take`](Self::take).
///
/// # Clone
/// A clone has not waited yet: readiness is each service's own to find out.
#[derive(Default)]
pub(crate) struct ReadyWait(Option<Box<Wait>>);

struct Wait {
    since: Time,
    timer: Pin<Box<Option<Sleep>>>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Waiting,
    /// The service is ready, after this long.
    Over(Duration),
    Late(Late),
}

/// Which time was up when the service still was not ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Late {
    /// The policy's own.
    Limit,
    /// That of the caller.
    Deadline(Deadline),
}

impl ReadyWait {
    /// Polls the service for readiness, and says `Ready` when the time is up.
    #[inline]
    pub(crate) fn poll<E>(
        &mut self,
        limit: Duration,
        cx: &mut Context<'_>,
        mut ready: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        match ready(cx) {
            Poll::Ready(result) => {
                if self.0.is_some() {
                    self.over(limit, result.is_ok());
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.pending(limit, cx, ready),
        }
    }

    /// Returns whether the call's service was ready at once.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns how long the call's service was waited for, or what has become of a wait that lasted
    /// too long.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Duration, Late> {
        match self.0 {
            None => Ok(Duration::ZERO),
            Some(_) => self.take_wait(),
        }
    }

    #[cold]
    fn take_wait(&mut self) -> Result<Duration, Late> {
        match self.0.take().map(|wait| wait.stage) {
            Some(Stage::Late(late)) => Err(late),
            Some(Stage::Over(waited)) => Ok(waited),
            // A caller that has not heard that the service is ready: what it does is its own
            // business.
            Some(Stage::Waiting) | None => Ok(Duration::ZERO),
        }
    }

    #[cold]
    fn over(&mut self, limit: Duration, well: bool) {
        let now = Time::now();
        match &mut self.0 {
            // Nobody has asked for longer than any wait lasts: its caller had gone, and this one
            // begins anew.
            Some(wait) if now > wait.since.after(limit).after(limit) => self.0 = None,
            Some(wait) if well => {
                if !matches!(wait.stage, Stage::Over(_)) {
                    wait.stage = Stage::Over(now.since(wait.since));
                }
                wait.timer.set(None);
            }
            _ => self.0 = None,
        }
    }

    #[cold]
    fn pending<E>(
        &mut self,
        limit: Duration,
        cx: &mut Context<'_>,
        mut ready: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>> {
        let now = Time::now();
        let wait = self.0.get_or_insert_with(|| Box::new(Wait::begin(now)));
        if now > wait.since.after(limit).after(limit) {
            **wait = Wait::begin(now);
        }
        if let Stage::Late(_) = wait.stage {
            return Poll::Ready(Ok(()));
        }
        wait.stage = Stage::Waiting;
        let own = wait.since.after(limit);
        let (until, late, limiter) = match Deadline::current() {
            Some(deadline) if deadline.time() <= own => (
                deadline.time(),
                Late::Deadline(deadline),
                deadline.limiter(),
            ),
            _ => (own, Late::Limit, Limiter::operator(limit)),
        };
        if now < until && wait.poll_timer(until, cx).is_pending() {
            note_wait();
            return Poll::Pending;
        }
        // Waiting => Late. The last poll tells policies further in that nobody waits any more: a
        // place in a line would be given a permit that nobody uses.
        let mut last = Poll::Pending;
        cut_off(limiter, || last = ready(cx));
        match last {
            Poll::Ready(result) => {
                self.over(limit, result.is_ok());
                Poll::Ready(result)
            }
            Poll::Pending => {
                wait.stage = Stage::Late(late);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Wait {
    fn begin(now: Time) -> Self {
        Self {
            since: now,
            timer: Box::pin(None),
            stage: Stage::Waiting,
        }
    }

    fn poll_timer(&mut self, until: Time, cx: &mut Context<'_>) -> Poll<()> {
        // A limit beyond the end of time needs no timer.
        match until {
            Time(u64::MAX) => Poll::Pending,
            _ => poll_until(self.timer.as_mut(), until, cx),
        }
    }
}

impl Clone for ReadyWait {
    #[inline]
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl fmt::Debug for ReadyWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("None"),
            Some(wait) => write!(f, "since {:?}", wait.since),
        }
    }
}
