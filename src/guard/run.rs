//! Any guard around a closure: no tower, no shared ownership, nothing counted.

use super::{
    Admission, CallGuard, Guard, GuardBase, WaitProgress, wait::WaitGuard, wait::poll_until,
};
use crate::{
    classify::{Classify, ErrorsAsFailures},
    clock::Now,
    error::{FromRejected, RefusalMark, note_wait, refuse},
};
use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
};

/// Runs `op` if the guard admits `req`, after a wait if need be, whose length is the guard's to
/// say.
///
/// An `Err` counts as a failure, unless it is [classified](super::classify). If it is a rejection
/// by a policy inside `op`, it counts as the table of [`Outcome`](crate::Outcome) says: a timeout
/// is a failure, a full load shed is overload, and any other refusal teaches nothing. For a guard
/// that does not look at the request pass `&()`, or use the policy's own `run` method. Dropping the
/// future cancels the call, or leaves the queue.
///
/// # Errors
/// The guard's [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
pub fn run<G, Req, T, E, Fut>(
    guard: &G,
    req: &Req,
    op: impl FnOnce() -> Fut,
) -> impl Future<Output = Result<T, E>>
where
    G: Guard<Req>,
    E: FromRejected,
    Fut: Future<Output = Result<T, E>>,
{
    run_classified(guard, req, &ErrorsAsFailures, op)
}

/// Runs `op` if the guard admits `req`, and has this classifier say what its result means.
pub(super) async fn run_classified<G, Req, C, T, E, Fut>(
    guard: &G,
    req: &Req,
    classifier: &C,
    op: impl FnOnce() -> Fut,
) -> Result<T, E>
where
    G: Guard<Req>,
    C: Classify<T, E>,
    E: FromRejected,
    Fut: Future<Output = Result<T, E>>,
{
    let mut call_guard = match guard.admit(req, &Now::lazy()) {
        Admission::Admitted(permit) => CallGuard::new(guard, permit),
        Admission::Refused(rejected) => return Err(refuse(rejected)),
        Admission::Wait(wait) => wait_for(guard, req, wait).await?,
    };
    let mut op = pin!(call_guard.start(op));
    poll_fn(|cx| {
        let mark = RefusalMark::set();
        let result = ready!(call_guard.poll(mark, || op.as_mut().poll(cx)));
        Poll::Ready(end_with(&mut call_guard, result, mark, classifier))
    })
    .await
}

/// Ends a call with what its result says: that a policy inside refused it, or else what the
/// classifier makes of it.
#[inline]
fn end_with<G, C, T, E>(
    call_guard: &mut CallGuard<&G>,
    result: Result<T, E>,
    mark: RefusalMark,
    classifier: &C,
) -> Result<T, E>
where
    G: GuardBase,
    C: Classify<T, E>,
    E: 'static,
{
    let result = match result {
        Ok(value) => Ok(value),
        Err(error) => Err(call_guard.end_if_rejected(mark, error)),
    };
    if !call_guard.has_ended() {
        let outcome = call_guard.during(|_| classifier.classify(result.as_ref()));
        call_guard.end_as_outcome(outcome);
    }
    result
}

async fn wait_for<'a, G, Req, E>(
    guard: &'a G,
    req: &Req,
    wait: G::Wait,
) -> Result<CallGuard<&'a G>, E>
where
    G: Guard<Req>,
    E: FromRejected,
{
    let mut wait = WaitGuard::new(guard, wait);
    let mut timer = pin!(None);
    poll_fn(|cx| {
        loop {
            match wait.poll(req, cx, &Now::lazy()) {
                WaitProgress::Admitted(permit) => {
                    wait.finish();
                    return Poll::Ready(Ok(CallGuard::new(guard, permit)));
                }
                WaitProgress::Refused(rejected) => {
                    wait.finish();
                    return Poll::Ready(Err(refuse(rejected)));
                }
                WaitProgress::Pending(until) => {
                    let timer = timer.as_mut();
                    let over = until.map_or(Poll::Pending, |until| poll_until(timer, until, cx));
                    if over.is_pending() {
                        note_wait();
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}
